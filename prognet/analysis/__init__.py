"""Analysis: which columns a column relies on."""

from prognet.analysis.sensitivity import Sensitivity as Sensitivity
from prognet.analysis.sensitivity import average_fisher_sensitivity as average_fisher_sensitivity
from prognet.analysis.sensitivity import average_perturbation_sensitivity as average_perturbation_sensitivity
