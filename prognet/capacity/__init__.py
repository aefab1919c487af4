"""The capacity of a progressive network: what K tasks need, before any of them is learned.

Everything follows from what one column needs as a function of how many columns it reads (`ColumnCosts`, measured by
`prognet.analysis.column_costs`) and from the size of the work (`Workload`). Parameters, bytes, operations and the calls
of columns are counted; seconds are these counts times rates that a few measured steps give (`fit_rates`).

Columns k and tasks are counted from 0 here, as in code: column k reads s_k = min(k, m) earlier ones, where m is the
number of sources at most.
"""

from prognet.capacity.counting import Capacity as Capacity
from prognet.capacity.counting import run_capacity as run_capacity
from prognet.capacity.seconds import GridCapacity as GridCapacity
from prognet.capacity.seconds import Rates as Rates
from prognet.capacity.seconds import fit_rates as fit_rates
from prognet.capacity.seconds import grid_capacity as grid_capacity
from prognet.capacity.work import BySources as BySources
from prognet.capacity.work import ColumnCosts as ColumnCosts
from prognet.capacity.work import Workload as Workload
