"""Gates: which task an input belongs to, where no task label is given at test time."""

from collections.abc import Mapping
from types import MappingProxyType

from prognet.config import GateName
from prognet.gates.agnostic import Choice as Choice
from prognet.gates.agnostic import TaskAgnostic as TaskAgnostic
from prognet.gates.autoencoder import AutoEncoderGate as AutoEncoderGate
from prognet.gates.base import Gate as Gate
from prognet.gates.certainty import ConfidenceGate as ConfidenceGate
from prognet.gates.certainty import EntropyGate as EntropyGate

GATES: Mapping[GateName, type[Gate]] = MappingProxyType(
    {"confidence": ConfidenceGate, "entropy": EntropyGate, "autoencoder": AutoEncoderGate}
)
"""The gates that the harness knows, by the name that `Measurement.gates` has for them."""
