"""What ``vitsearch check`` finds out, without a run.

space.py    every problem of a space file, its data and its weights files
device.py   what of a space runs on a device, by what its agent reports
"""

from __future__ import annotations

from vitsearch.search.check.device import CheckedDevice, check_device
from vitsearch.search.check.space import Checked, Valid, check_space

__all__ = ["Checked", "CheckedDevice", "Valid", "check_device", "check_space"]
