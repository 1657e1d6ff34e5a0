"""What a stage does now, from the worker that runs it to the driver, through the store of Ray's head.

The worker writes what has changed once a second; the driver reads as often. Neither waits for the other, and a report
that is lost is followed by the next.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from vitsearch.core.activity import Activity, Work, doing

REPORT_S = 1.0
ANSWER_S = 2
"""The store of the head has to answer within this time, or there is no report."""
NAMESPACE = b"vitsearch"


@dataclass(frozen=True)
class WorkerReport:
    """What the worker on the machine `host`, a node with this `address`, does."""

    host: str
    address: str
    activity: Activity

    @property
    def node(self) -> str:
        return f"{self.host} ({self.address})"


class Mailbox:
    """The place of the reports about one try of one stage. `key` is its own, `store` Ray's client of the store of
    the head; `node` is where its worker runs, once that is known."""

    def __init__(self, key: str, store: Any) -> None:
        self.key = key
        self.node: str | None = None
        self._store = store

    def write(self, report: WorkerReport) -> None:
        self._store.internal_kv_put(self.key.encode(), json.dumps(asdict(report)).encode(), True, NAMESPACE, ANSWER_S)

    def read(self) -> WorkerReport | None:
        """The last report; None before the worker has begun, or where the head does not answer."""
        content = None
        with suppress(Exception):  # Ray's own errors of a head that is away, of which its users hear elsewhere
            content = self._store.internal_kv_get(self.key.encode(), NAMESPACE, ANSWER_S)
        if content is None:
            return None
        fields = json.loads(content)
        return WorkerReport(fields["host"], fields["address"], Activity(**fields["activity"]))

    def remove(self) -> None:
        with suppress(Exception):
            self._store.internal_kv_del(self.key.encode(), False, NAMESPACE, ANSWER_S)


@contextmanager
def reporting(mailbox: Mailbox, address: str) -> Iterator[None]:
    """Inside this block, in a worker on the node with this `address`, what the stage does is reported."""
    host, work, ended = socket.gethostname(), Work(), threading.Event()

    def report() -> None:
        last = None
        while True:
            with suppress(Exception):  # the next report makes up for it
                if (now := WorkerReport(host, address, work.activity)) != last:
                    mailbox.write(now)
                    last = now
            if ended.wait(REPORT_S):
                return

    thread = threading.Thread(target=report, name="vitsearch-reports", daemon=True)
    thread.start()
    try:
        with doing(work):
            yield
    finally:
        ended.set()
        thread.join()
