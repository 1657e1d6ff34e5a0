"""How much the batches, threads and streams of a space may change what a run costs, beside those of the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
        first, threads = self.batches[0], max(self.threads) / min(self.threads)
        if metric.startswith("latency_ms_concurrent"):
            return max(self.batches) / first * (max(self.streams) / min(self.streams) if self.streams else 1.0)
        if metric.startswith("latency_ms"):
            return max(self.batches) / first
        if metric.startswith("cpu_ms"):
            return max(self.batches) / first * threads
        if metric == "throughput_ips":
            return first / min(self.batches) * threads
        return 1.0


ONE = RunSizes()
"""One image in a run of one thread."""
