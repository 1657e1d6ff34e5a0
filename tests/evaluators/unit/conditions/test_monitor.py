import os

import pytest

from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.conditions.emulation import DeviceTree
from vitsearch_evaluators.conditions.monitor import REPEATS, Watch
from vitsearch_evaluators.testing import ManualTime
from vitsearch_evaluators.wire.measurement import Temperature
from vitsearch_evaluators.wire.protocol import SCREEN

GATED = SCREEN._replace(start_max_c=45.0, cooldown_max_s=60.0)


class Board:
    """A device that cools down by a degree each second that somebody waits, and heats up when it is told to."""

    def __init__(self, root, celsius):
        self.tree = DeviceTree(str(root / "tree"))
        self.time = ManualTime(self._cool)
        self.events = 0
        self.runs = 0
        self._since = self.time.now
        self.heat(celsius)
        self.throttle(0)

    @property
    def system(self):
        return System(self.tree.root, clock=self.time.clock, sleep=self.time.sleep)

    def heat(self, celsius):
        self.celsius = celsius
        self.tree.zone(0, "cpu-thermal", int(celsius * 1000))

    def throttle(self, events):
        self.events += events
        self.tree.over_current(self.events)

    def process(self, *celsius, throttled=()):
        """A process under which it gets as warm as told and, in the runs of these numbers, throttles."""

        def run():
            self.runs += 1
            for value in celsius:
                self.heat(value)
            if self.runs in throttled:
                self.throttle(3)
            return {"run": self.runs}

        return run

    def _cool(self, now):
        self.heat(self.celsius - (now - self._since))
        self._since = now


def never():
    return False


@pytest.fixture
def board(tmp_path):
    return Board(tmp_path, 40.0)


@pytest.fixture
def kept(tmp_path):
    return str(tmp_path / "seen.json")


def test_a_cool_device_starts_at_once(board, kept):
    watch = Watch(board.system, GATED, never)
    assert watch.over("latency", board.process(50), kept) == {"run": 1}
    assert board.time.now == 100.0
    (seen,) = watch.observations
    assert seen.temperature == Temperature("cpu-thermal", 40.0, 50.0, 50.0)
    assert (seen.throttled, seen.warm_start) == (False, False)


def test_a_warm_device_cools_down_first(board, kept):
    board.heat(55.0)
    watch = Watch(board.system, GATED, never)
    watch.over("latency", board.process(50), kept)
    assert watch.observations[0].temperature.start_c == 45.0
    assert board.time.now == 110.0


def test_a_device_that_stays_warm_is_measured_and_flagged(board, kept):
    board.heat(155.0 - 10)
    watch = Watch(board.system, GATED, never)
    watch.over("latency", board.process(140), kept)
    assert watch.observations[0].warm_start
    assert board.time.now == 160.0


def test_later_processes_start_near_the_first(board, kept):
    watch = Watch(board.system, GATED, never)
    watch.over("latency", board.process(60), kept)
    watch.over("latency", board.process(60), kept)
    assert [seen.temperature.start_c for seen in watch.observations] == [40.0, 43.0]


def test_a_protocol_that_waits_for_nothing_does_not_wait(board, kept):
    board.heat(70.0)
    watch = Watch(board.system, SCREEN, never)
    for _ in range(2):
        watch.over("latency", board.process(80), kept)
    assert board.time.now == 100.0
    assert not any(seen.warm_start for seen in watch.observations)


def test_throttled_cools_down_and_measures_again(board, kept):
    watch = Watch(board.system, SCREEN, never)
    assert watch.over("latency", board.process(80, throttled=[1]), kept) == {"run": 2}
    (seen,) = watch.observations
    assert seen.throttled is False
    assert seen.temperature.start_c == 43.0


def test_who_watches_the_job_hears_why_it_waits(board, kept):
    told = []
    watch = Watch(board.system, SCREEN, never, tell=lambda what, **details: told.append((what, details)))
    watch.over("latency", board.process(80, throttled=[1]), kept)
    assert [what for what, _ in told] == ["retried", "cooling"]
    assert told[0][1]["phase"] == "latency"
    assert told[1][1]["until_c"] == 43.0


def test_throttled_each_time_is_kept_and_said(board, kept):
    watch = Watch(board.system, SCREEN, never)
    every = range(1, 9)
    assert watch.over("latency", board.process(50, throttled=every), kept) == {"run": 1 + REPEATS}
    assert watch.over("latency", board.process(50, throttled=every), kept) == {"run": 2 + REPEATS}
    assert [seen.throttled for seen in watch.observations] == [True, True]
    assert watch.observations[0].throttling == "oc3 (instantaneous over-current) by 3"


def test_a_soaked_device_is_not_measured_again(board, kept):
    watch = Watch(board.system, SCREEN, never)
    assert watch.over("sustained", board.process(80, throttled=[1]), kept) == {"run": 1}
    assert watch.observations[0].throttled is True


def test_a_stop_ends_the_repeats(board, kept):
    watch = Watch(board.system, SCREEN, lambda: True)
    assert watch.over("latency", board.process(80, throttled=[1, 2, 3]), kept) == {"run": 1}


def test_the_next_agent_knows_what_was_seen(board, kept):
    first = Watch(board.system, GATED, never)
    first.over("latency", board.process(60), kept)
    second = Watch(board.system, GATED, never)
    assert second.recall(kept)
    assert second.observations == first.observations
    second.over("latency", board.process(60), kept)
    assert second.observations[1].temperature.start_c == 43.0


def test_what_was_not_seen_cannot_be_recalled(board, kept):
    watch = Watch(board.system, GATED, never)
    assert not watch.recall(kept)
    assert watch.observations == []


def test_glances_find_what_both_ends_miss(board, kept, until):
    watch = Watch(board.system, SCREEN, never, glance_s=0.005)
    reads = []
    thermometer = watch._thermometer.read
    watch._thermometer.read = lambda: reads.append(1) or thermometer()

    def run():
        board.heat(71.0)
        seen = len(reads) + 1  # the next one may have begun before it got warm
        until(lambda: len(reads) > seen)
        board.heat(50.0)
        return {}

    watch.over("latency", run, kept)
    assert watch.observations[0].temperature == Temperature("cpu-thermal", 40.0, 50.0, 71.0)


def test_slow_processors_are_a_hint_where_no_counter_tells(tmp_path, kept, until):
    tree = DeviceTree(str(tmp_path / "tree"))
    policy = "/sys/devices/system/cpu/cpufreq/policy0"
    tree.write(f"{policy}/scaling_max_freq", 1500000)
    tree.write(f"{policy}/scaling_cur_freq", 600000)
    reads = []

    class Counting(System):
        def number(self, path):
            reads.append(path)
            return super().number(path)

    def run():
        until(lambda: sum(path.endswith("scaling_max_freq") for path in reads) > 1)
        return {}

    watch = Watch(Counting(tree.root), SCREEN, never, glance_s=0.005)
    watch.over("latency", run, kept)
    (seen,) = watch.observations
    assert seen.throttled is None
    assert "no processor was seen above 40% of its highest frequency" in seen.throttling
    assert "no temperature sensor" in seen.reasons["temperature"]


def test_a_process_that_fails_leaves_nothing_behind(board, kept):
    def fail():
        raise ValueError("no")

    watch = Watch(board.system, SCREEN, never)
    with pytest.raises(ValueError, match="no"):
        watch.over("latency", fail, kept)
    assert not os.path.exists(kept)
