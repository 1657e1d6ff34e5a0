"""Samples in bursts, in which the model alternates with reference models.

    burst:   R  M  R' M  R  M  R' M  R      blocks of 15 ms or 250 runs, each after 6 to 40 ms that are not counted;
                                            R and R' are the references in turn
    process: burst, 0.5 s of rest, burst, ...

On a machine that is shared with others the speed of a processor changes by a factor of 1.6 to 2.8 for seconds at a
time, even when nothing of ours runs. All runs of one process are then equally fast or slow, so no statistic of the
model's own times shows it. The ratio to a reference that runs within the same 100 ms does not change with it.
"""

import math
from typing import Callable, List, NamedTuple, Sequence, Tuple

from vitsearch_agent.measure.child.hardware_counters import HardwareCounters
from vitsearch_agent.measure.child.phase_reports import Block, PairedBlock
from vitsearch_agent.measure.child.timed_loop import Clocks, Samples, clock_overhead_ms, is_enough, timed_runs
from vitsearch_agent.wire.distribution import median
from vitsearch_agent.wire.measure_protocol import MeasureProtocol

BLOCK_S = 0.015
SETTLE_LEAST_S, SETTLE_S_PER_MB, SETTLE_MOST_S = 0.006, 0.0015, 0.04
"""The first runs after a switch are not counted: the caches hold what ran before. How long depends on what has to come
back. A model of 1.6 ms with 28 MB of weights took 60 % longer in the first run, 5 to 15 % in the fifth and 1 to 5 % in
the fifteenth; one of 0.1 ms with 1.7 MB took twice as long in the first, 9 % longer after 5 ms and 2 % after 8 ms."""
REFERENCE_SETTLE_S = 0.01
"""The large products compute more than they load, and the small convolutions have hardly any weights."""
BLOCK_MINIMUM_RUNS, BLOCK_MAXIMUM_RUNS = 3, 250
PAIRS = 4
"""Blocks of the model in each burst."""
REST_S = 0.5
"""Rest between two bursts: one disturbance should not last for all of them."""

Run = Callable[[], None]


class Timed(NamedTuple):
    """A model that runs in blocks; for `settle_s` seconds after a switch to it no run is counted."""

    run: Run
    settle_s: float


def settle_s(model_bytes: int) -> float:
    """Return how long a model settles after a switch, by the size of its files."""
    return min(SETTLE_MOST_S, SETTLE_LEAST_S + SETTLE_S_PER_MB * model_bytes / 1e6)


class BurstSamples(NamedTuple):
    """The times of all counted runs of the model, in order, and for each burst its blocks with their neighbours.

    Without references there are no bursts. `rests` counts the rests between bursts, each of which gave
    the processor up.
    """

    samples: Samples
    bursts: Tuple[Tuple[PairedBlock, ...], ...]
    rests: int = 0


class BurstSampler:
    """Samples a model beside its references, products first; without references, the model alone."""

    def __init__(self, model: Timed, references: Sequence[Timed], counters: HardwareCounters, clocks: Clocks) -> None:
        self._model = model
        self._references = references
        self._counters = counters
        self._clocks = clocks
        self._overhead_ms = clock_overhead_ms(clocks)
        self._samples = Samples([], [])

    def sample(self, protocol: MeasureProtocol) -> BurstSamples:
        """Sample until the protocol's `min_runs` and `min_s` are reached, or `max_s` is over."""
        bursts: List[Tuple[PairedBlock, ...]] = []
        rests = 0
        start = self._clocks.wall()
        while not is_enough(len(self._samples.wall_ms), self._clocks.wall() - start, protocol):
            if self._samples.wall_ms:
                self._clocks.sleep(REST_S)
                rests += 1
            if self._references:
                bursts.append(self._paired_burst())
            else:
                self._plain_burst(protocol)
        return BurstSamples(self._samples, tuple(bursts), rests)

    def _paired_burst(self) -> Tuple[PairedBlock, ...]:
        products, convolutions = self._references
        self._block(convolutions)  # not counted: the processor may have slowed down in the rest
        before = _summary(self._block(products))
        blocks: List[PairedBlock] = []
        for pair in range(PAIRS):
            model = _summary(self._model_block())
            is_even = pair % 2 == 0
            after = _summary(self._block(convolutions if is_even else products))
            blocks.append(PairedBlock(model, before, after) if is_even else PairedBlock(model, after, before))
            before = after
        return tuple(blocks)

    def _plain_burst(self, protocol: MeasureProtocol) -> None:
        """Time the model alone for as long as its blocks in a paired burst take, or until one burst is enough."""
        before = len(self._samples.wall_ms)
        if before:
            self._settle(self._model)  # the processor may have slowed down in the rest
        self._model_runs(
            lambda done, passed_s: (
                (done < PAIRS * BLOCK_MINIMUM_RUNS or passed_s < PAIRS * BLOCK_S)
                and not is_enough(before + done, passed_s, protocol)
            )
        )

    def _model_block(self) -> Samples:
        self._settle(self._model)
        return self._model_runs(_is_in_block)

    def _block(self, reference: Timed) -> Samples:
        self._settle(reference)
        return self._timed(reference.run, _is_in_block)

    def _settle(self, model: Timed) -> None:
        """Run without counting after a switch from another model, at least once."""
        timed_runs(model.run, self._clocks, lambda done, passed_s: done == 0 or passed_s < model.settle_s)

    def _model_runs(self, keep_running: Callable[[int, float], bool]) -> Samples:
        """Time runs of the model and keep their times."""
        self._counters.start()
        samples = self._timed(self._model.run, keep_running)
        self._counters.stop()
        self._samples.wall_ms.extend(samples.wall_ms)
        self._samples.cpu_ms.extend(samples.cpu_ms)
        return samples

    def _timed(self, run: Run, keep_running: Callable[[int, float], bool]) -> Samples:
        samples = timed_runs(run, self._clocks, keep_running)
        return Samples(samples.wall_ms, [max(0.0, cpu_ms - self._overhead_ms) for cpu_ms in samples.cpu_ms])


def _is_in_block(runs: int, seconds: float) -> bool:
    return runs < BLOCK_MINIMUM_RUNS or (seconds < BLOCK_S and runs < BLOCK_MAXIMUM_RUNS)


def _summary(samples: Samples) -> Block:
    """Return the median CPU time of a block and its mean wall time.

    Wall time needs the mean: a run that is shorter than the scheduler's time slice is rarely preempted, so the medians
    of a short and a long model grow by different factors under the same load.
    """
    return Block(median(samples.cpu_ms), math.fsum(samples.wall_ms) / len(samples.wall_ms))
