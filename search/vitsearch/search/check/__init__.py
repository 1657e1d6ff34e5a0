"""What `vitsearch check` finds out, without a run.

space.py    every problem of a space file, its data and its weights files
weights.py  finished weights on some images of the data
device.py   what of a space runs on its devices, by what their agents report
machine.py  what this machine can do, and what it lacks
costs.py    what a search will cost: its models, limits that cannot be met, time
unpruned_costs.py  what each backbone costs unpruned, and the time to screen them all
stage_seconds.py   how long a stage takes
probes.py   several things asked at once, each for some seconds at most
connections.py  what a run needs beside this machine: database, files, devices, the hub, the study it goes on with
"""

from __future__ import annotations

from vitsearch.search.check.costs import Costs, count_models, estimate_time, space_costs
from vitsearch.search.check.device import CheckedDevices, check_devices
from vitsearch.search.check.space import (
    Checked,
    CheckedFile,
    Valid,
    check_data,
    check_file,
    check_space,
    check_weights_of,
)

__all__ = [
    "Checked",
    "CheckedDevices",
    "CheckedFile",
    "Costs",
    "Valid",
    "check_data",
    "check_devices",
    "check_file",
    "check_space",
    "check_weights_of",
    "count_models",
    "estimate_time",
    "space_costs",
]
