"""What it means when a measuring attempt ended without an answer: whose fault it was, and whether to try again.

A *death* is one word for how an attempt ended: `agent` when the agent died during it, `disk full` when
there was no room for its answer, else the name of the signal that ended the child. The deaths of a job
are kept with it, over restarts of the agent.
"""

from typing import Optional, Sequence

from vitsearch_evaluators.errors import MeasurementFailed

AGENT = "agent"
DISK_FULL = "disk full"

FROM_OUTSIDE = (AGENT, DISK_FULL, "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
"""No model sends itself these: somebody ended the child, or the board went down. With evidence that the
kernel did it for want of memory, `child` reports `out_of_memory` instead, and no death."""

OWN_DEATHS_MAX = 3
"""So many crashes by different signals are a verdict too: the memory of the process is a mess."""


def verdict(deaths: Sequence[str], interruptions_max: int) -> Optional[MeasurementFailed]:
    """Return the failure that a job's deaths amount to, None while it deserves another fresh child.

    A crash by the same signal twice is the artifact's own; once may be the neighbour's (a driver that
    was reset, a flipped bit). Interruptions from outside say nothing about the artifact, but a job that
    was always there when something died, `interruptions_max` times, is given up.
    """
    own = [death for death in deaths if death not in FROM_OUTSIDE]
    details = {"deaths": list(deaths)}
    if own and (own.count(own[-1]) > 1 or len(own) >= OWN_DEATHS_MAX):
        message = f"the child was ended by {own[-1]}, as a fresh one before it by {own[-2]}"
        return MeasurementFailed("crash", message, dict(details, signal=own[-1]))
    interruptions = len(deaths) - len(own)
    if interruptions >= interruptions_max:
        causes = ", ".join(sorted(set(deaths) - set(own)))
        return MeasurementFailed("interrupted", f"given up after {interruptions} interruptions ({causes})", details)
    return None
