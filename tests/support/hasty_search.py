"""As `support.quick_search`, and soon impatient: `python -m support.hasty_search run space.yaml`.

A run says after a minute what keeps it waiting, and waits for an agent's answer for half a minute; here for seconds.
"""

from functools import partialmethod

from support.quick_search import shorten
from vitsearch.cli.app import main
from vitsearch.search.watch import stall
from vitsearch.workers import process_guard
from vitsearch_agent.client.client import DeviceClient

if __name__ == "__main__":
    shorten()
    stall.QUIET_S, stall.LOOK_S = 3.0, 1.0
    process_guard.ANSWER_S = 3.0
    DeviceClient.__init__ = partialmethod(DeviceClient.__init__, timeout_s=3.0)  # type: ignore[assignment]
    main()
