"""Whether the head of a Ray cluster answers. Ray itself says nothing for a minute, and then ends the driver."""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress

from vitsearch.core.activity import current
from vitsearch.errors import WorkersLost

LOOK_S = 2.0
ANSWER_S = 2.0
"""A connection that is not made within this time counts as none."""
LOST_S = 10.0
"""A head that has been silent for so long is lost."""


class ClusterHead:
    """The head at `address` (host:port), which has answered before."""

    def __init__(self, address: str) -> None:
        self._address = address
        host, _, port = address.rpartition(":")
        self._place = host.strip("[]"), int(port)

    async def answers(self) -> bool:
        """Whether it answers at this moment."""
        return await self._silent() is None

    async def watch(self) -> None:
        """Return never. Raises `WorkersLost` when the head is lost."""
        while True:
            await asyncio.sleep(LOOK_S)
            if (why := await self._silent()) is not None:
                await self._wait(why)

    async def _wait(self, why: str) -> None:
        since = time.monotonic()
        with current().awaiting(f"the head of the Ray cluster at {self._address}", why):
            while (why := await self._silent() or "") and time.monotonic() - since < LOST_S:
                await asyncio.sleep(LOOK_S)
        if why:
            raise WorkersLost(
                f"the head of the Ray cluster at {self._address} is lost ({why}); start the cluster again, and the "
                "same command, 'vitsearch run FILE', resumes: every stage that had ended is kept"
            )

    async def _silent(self) -> str | None:
        """Why the head does not answer; None when it does."""
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(*self._place), ANSWER_S)
        except TimeoutError:
            return f"no answer within {ANSWER_S:g} s"
        except OSError as error:
            return os.strerror(error.errno) if error.errno else str(error)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
        return None
