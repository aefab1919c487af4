"""Meta-learning: initialisations from which few steps on few samples go far. Reptile, MAML and ANIL on `torch.func`."""

from prognet.meta.episodes import Episodes as Episodes
from prognet.meta.episodes import FewShot as FewShot
from prognet.meta.episodes import sine_episodes as sine_episodes
from prognet.meta.learning import MetaLearning as MetaLearning
from prognet.meta.learning import MetaRecord as MetaRecord
from prognet.meta.learning import adapt as adapt
from prognet.meta.learning import learn_start as learn_start
from prognet.meta.learning import meta_learn as meta_learn
from prognet.meta.steps import adapted as adapted
from prognet.meta.steps import loss_with as loss_with
from prognet.meta.steps import meta_gradient as meta_gradient
from prognet.meta.steps import reptile_direction as reptile_direction
