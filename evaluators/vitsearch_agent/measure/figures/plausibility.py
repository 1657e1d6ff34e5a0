"""Which figures of a measuring process are impossible, by what the agent saw of it from outside.

A model may run code of its own in the process that measures it, and report what it likes. It cannot have computed for
longer than it was there, or taken more CPU time than the kernel counted; its blocks are those of its samples; its batch
is that of the job and of its file. A lie within these bounds says something of this model alone.

Every function returns what is impossible, None if nothing is. The bounds hold for each sound process, on a busy
machine too: times add up to less than the time of the process, however slow it is.
"""

import math
from typing import Iterator, NamedTuple, Optional

from vitsearch_agent.measure.child.bursts import BLOCK_MINIMUM_RUNS
from vitsearch_agent.measure.child.phase_reports import Block, PowerReport, ProcessReport, ThroughputReport
from vitsearch_agent.measure.seen import Seen
from vitsearch_agent.runtimes.shapes import RunShapes
from vitsearch_agent.wire.distribution import median
from vitsearch_agent.wire.measure_protocol import MINIMUM_RUNS, MOST_RUNS, MeasureProtocol

SHORTEST_MS = 1e-5
"""No run is shorter: two readings of a clock take longer."""
CPU_TICKS_S = 0.05
"""The kernel counts the CPU time of ended processes in ticks of 1 to 10 ms, for each of those that the child starts."""
CPU_OVER_WALL = 1.25
"""A hypervisor may charge to the CPU time of a run what passes between the readings of the two clocks."""
CPU_CLOCK_MS = 0.05
"""Reading the clock of CPU time is a call of the kernel, which counts: 0.6 microseconds here, more on a small board."""
PROGRAM_IN_FLIGHT = 4
"""A program may copy the inputs of the next runs while one computes, so its times overlap."""
PROGRAM_RATE = 1.25
"""A program measures its rate over the time from its first run to its last one, which is a little shorter."""
UNCLAIMED_MB, UNCLAIMED_SHARE = 96.0, 0.25
"""Memory that a sound process had and does not report: that of the references, which it loads after it has read its
peak, and of its samples. It was at most 48 MB in 487 processes of three runtimes, at a load of 5 to 28."""
FASTER_THAN_FASTEST = 4.0
"""The rate of runs without a pause is at most this multiple of that of the shortest run between pauses."""


def of_sizes(reported: RunShapes, expected: Optional[RunShapes]) -> Optional[str]:
    """Return what is impossible in the batch and shapes of a report, by those of the job and the file."""
    if expected is None:
        return None
    if reported.batch != expected.batch:
        return f"batch {reported.batch}; it is {expected.batch} by the job and the model's file"
    inputs = expected.shapes or {}
    for name, shape in (reported.shapes or {}).items():
        if inputs.get(name, shape) != shape:
            return f"shape {list(shape)} of {name}; it is {list(inputs[name])} by the job and the model's file"
    return None


class Bounds(NamedTuple):
    """What is known of a measurement without its processes.

    `is_program`: the runtime is one (`ToolRuntime`), whose figures are its own. `sizes` are those of the job and the
    file, None where neither says them.
    """

    protocol: MeasureProtocol
    is_program: bool
    processors: int
    sizes: Optional[RunShapes] = None

    def of_process(self, report: ProcessReport, seen: Seen, is_started: bool, soak_s: float = 0.0) -> Optional[str]:
        """Return what is impossible in the report of a timed process; a started one also reports its start."""
        problem = of_sizes(RunShapes(report.batch, report.shapes), self.sizes)
        if problem is None:
            problem = next(self._times(report, seen, soak_s), None)
        if problem is None and not self.is_program:
            problem = next(self._of_library(report, seen, is_started), None)
        return problem

    def of_throughput(self, report: ThroughputReport, seen: Seen, batch: int) -> Optional[str]:
        """Return what is impossible in the report of a throughput phase."""
        seconds, streams = self.protocol.throughput_s, self.protocol.streams
        if seen.wall_s < seconds:
            return f"a process of {seen.wall_s:.3g} s cannot have run the model for {seconds:g} s"
        most = batch * report.runs / seconds * PROGRAM_RATE
        if report.images_per_s > most:
            return f"{report.images_per_s:.4g} images/s of {report.runs} runs in {seconds:g} s: at most {most:.4g}"
        if not report.wall_ms:
            return None
        middle_ms = median(report.wall_ms)
        in_flight = streams * (PROGRAM_IN_FLIGHT if self.is_program else 1)
        if middle_ms < SHORTEST_MS:
            return f"a median of {middle_ms:g} ms: the clock cannot show less than {SHORTEST_MS:g} ms"
        if report.runs / 2 * middle_ms > in_flight * seen.wall_s * 1e3:  # half of the runs are not shorter
            return f"{report.runs} runs of {middle_ms:.4g} ms in {streams} streams within {seen.wall_s:.3g} s"
        return None

    def of_power(self, report: PowerReport, seen: Seen, batch: int, fastest_ms: float) -> Optional[str]:
        """Return what is impossible in the report of a power phase of a model whose shortest run took `fastest_ms`."""
        ends = [seen.start_s, *report.idle_before, *report.load, *report.idle_after, seen.end_s]
        if ends != sorted(ends):
            return "the windows of the power phase are not in order within the time of the process"
        load_s = report.load[1] - report.load[0]
        if load_s <= 0:
            return "the load of the power phase took no time"
        most = max(1.0, FASTER_THAN_FASTEST * load_s * 1e3 / fastest_ms)
        if report.inferences / batch > most:
            return f"{report.inferences} inferences in {load_s:.3g} s of a model of {fastest_ms:.4g} ms"
        return None

    def _times(self, report: ProcessReport, seen: Seen, soak_s: float) -> Iterator[str]:
        if len(report.wall_ms) < MINIMUM_RUNS:
            yield f"{len(report.wall_ms)} runs were timed; {MINIMUM_RUNS} are needed"
        middle_ms = median(report.wall_ms)
        if middle_ms < SHORTEST_MS:
            yield f"a median of {middle_ms:g} ms: the clock cannot show less than {SHORTEST_MS:g} ms"
        start_s = ((report.load_ms or 0.0) + (report.first_inference_ms or 0.0)) / 1e3
        runs_s, needed_s = math.fsum(report.wall_ms) / 1e3, soak_s
        if self.is_program:
            runs_s /= PROGRAM_IN_FLIGHT
        else:
            needed_s += self.protocol.warmup_min_s
            runs_s = max(runs_s, self._least_sampling_s(len(report.wall_ms)))
        if start_s + needed_s + runs_s > seen.wall_s:
            yield (
                f"{len(report.wall_ms)} runs with a median of {middle_ms:.4g} ms, after {start_s:.3g} s to load and "
                f"{needed_s:.3g} s of warm-up, take {start_s + needed_s + runs_s:.3g} s by the protocol; the process "
                f"was there for {seen.wall_s:.3g} s"
            )

    def _least_sampling_s(self, runs: int) -> float:
        """Return for how long this number of runs was sampled at least (`timed_loop.is_enough`)."""
        if runs >= MOST_RUNS:
            return 0.0
        return self.protocol.max_s if runs < self.protocol.min_runs else min(self.protocol.min_s, self.protocol.max_s)

    def _of_library(self, report: ProcessReport, seen: Seen, is_started: bool) -> Iterator[str]:
        """Yield what is impossible in what the child itself has timed and counted."""
        if len(report.cpu_ms) != len(report.wall_ms):
            yield f"{len(report.cpu_ms)} CPU times of {len(report.wall_ms)} runs"
        for name, cpu_s in (
            ("of the runs", math.fsum(report.cpu_ms) / 1e3),
            ("while sampling", report.scheduler_cpu_s or 0.0),
        ):
            if cpu_s > seen.cpu_s + CPU_TICKS_S:
                yield f"{cpu_s:.3g} s of CPU time {name}; the process took {seen.cpu_s:.3g} s in all"
        yield from self._cpu(Block(median(report.cpu_ms), median(report.wall_ms)), "the median run")
        yield from self._blocks(report, seen)
        yield from _memory(report, seen, is_started)

    def _cpu(self, times: Block, what: str) -> Iterator[str]:
        if times.cpu_ms > self.processors * CPU_OVER_WALL * times.wall_ms + CPU_CLOCK_MS:
            yield f"{times.cpu_ms:.4g} ms of CPU time in {times.wall_ms:.4g} ms of {what}, on {self.processors} cores"

    def _blocks(self, report: ProcessReport, seen: Seen) -> Iterator[str]:
        """Yield what is impossible in the blocks: those of the model are of its samples, and all have taken their
        time."""
        pairs = [pair for burst in report.bursts for pair in burst]
        if pairs and self.protocol.reference is None:
            yield "blocks of reference models, which the protocol does not have"
        for pair in pairs:
            for block in pair:
                if block.wall_ms < SHORTEST_MS:
                    yield f"a block of runs of {block.wall_ms:g} ms: the clock cannot show less than {SHORTEST_MS:g} ms"
                yield from self._cpu(block, "a block")
            for times, samples in ((pair.model.wall_ms, report.wall_ms), (pair.model.cpu_ms, report.cpu_ms)):
                if not min(samples) * (1 - 1e-9) <= times <= max(samples) * (1 + 1e-9):
                    yield f"a block of {times:.4g} ms; its runs took {min(samples):.4g} to {max(samples):.4g} ms"
        if BLOCK_MINIMUM_RUNS * len(pairs) > len(report.wall_ms):
            yield f"{len(pairs)} blocks of {len(report.wall_ms)} runs"
        # A block of a reference is in two pairs.
        least_ms = math.fsum(
            pair.model.wall_ms + (pair.products.wall_ms + pair.convolutions.wall_ms) / 2 for pair in pairs
        )
        if BLOCK_MINIMUM_RUNS * least_ms > seen.wall_s * 1e3:
            yield f"blocks of at least {BLOCK_MINIMUM_RUNS * least_ms / 1e3:.3g} s in a process of {seen.wall_s:.3g} s"


def _memory(report: ProcessReport, seen: Seen, is_started: bool) -> Iterator[str]:
    """Yield memory that a started process had and does not report. A forked one reports none: it shares pages."""
    if not is_started or seen.peak_mb is None:
        return
    if report.peak_memory_mb is None or report.runtime_baseline_mb is None:
        yield f"no memory, of which {seen.peak_mb:.0f} MB were seen"
        return
    claimed_mb = report.runtime_baseline_mb + report.peak_memory_mb
    if seen.peak_mb > claimed_mb * (1 + UNCLAIMED_SHARE) + UNCLAIMED_MB:
        yield f"a peak of {claimed_mb:.0f} MB of memory; {seen.peak_mb:.0f} MB were seen"
