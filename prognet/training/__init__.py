"""The one training loop, its batches and what it measures."""

from prognet.engine.size import count_parameters as count_parameters
from prognet.training.batches import Sampling as Sampling
from prognet.training.determinism import seeded as seeded
from prognet.training.features import Reading as Reading
from prognet.training.flops import booking as booking
from prognet.training.flops import counting_flops as counting_flops
from prognet.training.flops import record_of_looking as record_of_looking
from prognet.training.loop import fit as fit
from prognet.training.measuring import Predict as Predict
from prognet.training.measuring import evaluating as evaluating
from prognet.training.measuring import outputs_of as outputs_of
from prognet.training.procedure import Forward as Forward
from prognet.training.procedure import Penalised as Penalised
from prognet.training.procedure import Procedure as Procedure
from prognet.training.procedure import RateGroup as RateGroup
from prognet.training.session import FitRecord as FitRecord
from prognet.training.session import Session as Session
from prognet.training.session import computing as computing
