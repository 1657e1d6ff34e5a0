"""Several classes of devices that run the same model.

members.py   which devices they are        combine.py   one figure made of those of all of them
"""

from vitsearch.core.fleet.combine import Rule, Weighted, Worst, combined
from vitsearch.core.fleet.members import FLEET, Fleet, Member, stored_fleets

__all__ = ["FLEET", "Fleet", "Member", "Rule", "Weighted", "Worst", "combined", "stored_fleets"]
