"""How much the batches, threads and streams of a space may change what a run costs, beside those of the baseline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vitsearch.core.metrics import METRICS


@dataclass(frozen=True)
class RunSizes:
    """The batches, threads and streams that are searched. The baseline has the first batch, and the fewest threads and
    streams.

    Attributes:
        batches: Images in a run.
        threads: Threads of a run.
        streams: Runs in flight; empty where they are as many as the cores have room for.
    """

    batches: Sequence[int] = (1,)
    threads: Sequence[int] = (1,)
    streams: Sequence[int] = ()

    def worsening(self, metric: str) -> float:
        """Bound how much worse than the baseline a model is in a metric for its batch, threads and streams alone.

        A run of more images takes at most proportionally longer, and more threads gain nothing at worst: then they
        multiply the CPU time and divide the throughput. So do more streams, which multiply the latency beside others.

        Args:
            metric: Its name, without a device.

        Returns:
            A factor, 1 or more.
        """
        known = METRICS.get(metric)
        if known is None or known.measured is None:
            return 1.0
        first = self.batches[0]
        worst = {
            "batch": first / min(self.batches) if known.direction == "maximize" else max(self.batches) / first,
            "threads": max(self.threads) / min(self.threads),
            "streams": max(self.streams) / min(self.streams) if self.streams else 1.0,
        }
        return math.prod(worst[size] for size in known.measured.grows_with)


ONE = RunSizes()
"""One image in a run of one thread."""
