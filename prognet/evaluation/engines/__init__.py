"""Engines: what carries out the runs of a comparison, one after the other or many at once."""

from prognet.evaluation.engines.choosing import device_for as device_for
from prognet.evaluation.engines.choosing import engine_for as engine_for
from prognet.evaluation.engines.choosing import threads_for as threads_for
from prognet.evaluation.engines.choosing import trial_device_for as trial_device_for
from prognet.evaluation.engines.engine import Engine as Engine
