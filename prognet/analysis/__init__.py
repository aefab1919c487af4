"""Analysis: which columns a column relies on."""

from prognet.analysis.ablation import Ablation as Ablation
from prognet.analysis.ablation import lateral_ablation as lateral_ablation
from prognet.analysis.recalibration import recalibrate as recalibrate
from prognet.analysis.recalibration import recalibrated as recalibrated
from prognet.analysis.sensitivity import Sensitivity as Sensitivity
from prognet.analysis.sensitivity import average_fisher_sensitivity as average_fisher_sensitivity
from prognet.analysis.sensitivity import average_perturbation_sensitivity as average_perturbation_sensitivity
from prognet.analysis.similarity import Similarity as Similarity
from prognet.analysis.similarity import column_similarity as column_similarity
from prognet.analysis.similarity import linear_cka as linear_cka
