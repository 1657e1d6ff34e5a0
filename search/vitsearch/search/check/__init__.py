"""What ``vitsearch check`` finds out, without a run.

space.py    every problem of a space file, its data and its weights files
weights.py  finished weights on some images of the data
device.py   what of a space runs on its devices, by what their agents report
machine.py  what this machine can do, and what it lacks
costs.py    what a search will cost: its models, limits that cannot be met, time
"""

from __future__ import annotations

from vitsearch.search.check.costs import Costs, space_costs
from vitsearch.search.check.device import CheckedDevices, check_devices
from vitsearch.search.check.space import Checked, Valid, check_space

__all__ = ["Checked", "Costs", "CheckedDevices", "Valid", "check_devices", "check_space", "space_costs"]
