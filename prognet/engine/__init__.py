"""The engine: progressive networks of any module, with torch and nothing else."""

from prognet.engine.adapters import Adapter as Adapter
from prognet.engine.adapters import LinearAdapter as LinearAdapter
from prognet.engine.adapters import MLPAdapter as MLPAdapter
from prognet.engine.column import Column as Column
from prognet.engine.network import ProgressiveNetwork as ProgressiveNetwork
from prognet.engine.probe import Probe as Probe
from prognet.engine.probe import Sites as Sites
from prognet.engine.probe import probe as probe
from prognet.engine.sites import Activations as Activations
from prognet.engine.sites import Site as Site
