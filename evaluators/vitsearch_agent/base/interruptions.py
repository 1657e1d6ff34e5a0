"""What it means when a measuring attempt ended without an answer: whose fault it was, and whether to try again.

A *cause* is one word for how such an attempt ended: `agent` when the agent ended during it, `disk full` when
there was no room for its answer, else the name of the signal that ended the child. The queue keeps the causes
of a job's interruptions with the job, over restarts of the agent.
"""

from typing import Optional, Sequence

from vitsearch_agent.errors import MeasurementFailed

AGENT = "agent"
DISK_FULL = "disk full"

FROM_OUTSIDE = (AGENT, DISK_FULL, "SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
"""Causes that do not come from the model: somebody ended the child, or the device went down. Where there is
evidence that the kernel killed the child for lack of memory, the child process reports `out_of_memory` instead."""

CRASHES_MAX = 3
"""After this many crashes, even by different signals, the artifact has failed: it corrupts the process' memory."""


def verdict(causes: Sequence[str], interruptions_max: int) -> Optional[MeasurementFailed]:
    """Return the failure that follows from the causes of a job's interruptions, None if it may be tried again.

    Two crashes by the same signal are the artifact's own fault; a single one may come from elsewhere (a driver
    that was reset, a flipped bit). Interruptions from outside say nothing about the artifact, but after
    `interruptions_max` of them the job is given up, because it probably causes them.
    """
    crashes = [cause for cause in causes if cause not in FROM_OUTSIDE]
    details = {"interruptions": list(causes)}
    if crashes and (crashes.count(crashes[-1]) > 1 or len(crashes) >= CRASHES_MAX):
        message = f"the child was ended by {crashes[-1]}, and a fresh child before it by {crashes[-2]}"
        return MeasurementFailed("crash", message, dict(details, signal=crashes[-1]))
    from_outside = len(causes) - len(crashes)
    if from_outside >= interruptions_max:
        names = ", ".join(sorted(set(causes) - set(crashes)))
        return MeasurementFailed("interrupted", f"given up after {from_outside} interruptions ({names})", details)
    return None
