import pytest

from vitsearch_agent.base.system import System
from vitsearch_agent.conditions.emulation import DeviceTree
from vitsearch_agent.conditions.monitor import REPEATS, Monitor
from vitsearch_agent.testing import ManualTime
from vitsearch_agent.wire.measurement import Temperature
from vitsearch_agent.wire.protocol import SCREEN

GATED = SCREEN._replace(start_max_c=45.0, cooldown_max_s=60.0)


class Board:
    """A device that cools down by one degree per second of waiting and heats up on request."""

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
        """A process that heats the device to each of these temperatures and throttles in the runs `throttled`."""

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


def test_a_cool_device_starts_without_waiting(board):
    monitor = Monitor(board.system, GATED, never)
    assert monitor.run("latency", board.process(50)) == {"run": 1}
    assert board.time.now == 100.0
    (seen,) = monitor.observations
    assert seen.temperature == Temperature("cpu-thermal", 40.0, 50.0, 50.0)
    assert (seen.throttled, seen.warm_start) == (False, False)


def test_a_warm_device_cools_down_first(board):
    board.heat(55.0)
    monitor = Monitor(board.system, GATED, never)
    monitor.run("latency", board.process(50))
    assert monitor.observations[0].temperature.start_c == 45.0
    assert board.time.now == 110.0


def test_a_device_that_stays_warm_is_measured_and_flagged(board):
    board.heat(155.0 - 10)
    monitor = Monitor(board.system, GATED, never)
    monitor.run("latency", board.process(140))
    assert monitor.observations[0].warm_start
    assert board.time.now == 160.0


def test_later_processes_start_near_the_first(board):
    monitor = Monitor(board.system, GATED, never)
    monitor.run("latency", board.process(60))
    monitor.run("latency", board.process(60))
    assert [seen.temperature.start_c for seen in monitor.observations] == [40.0, 43.0]


def test_a_protocol_without_a_temperature_limit_does_not_wait(board):
    board.heat(70.0)
    monitor = Monitor(board.system, SCREEN, never)
    for _ in range(2):
        monitor.run("latency", board.process(80))
    assert board.time.now == 100.0
    assert not any(seen.warm_start for seen in monitor.observations)


def test_a_throttled_process_is_repeated_after_cooling_down(board):
    monitor = Monitor(board.system, SCREEN, never)
    assert monitor.run("latency", board.process(80, throttled=[1])) == {"run": 2}
    (seen,) = monitor.observations
    assert seen.throttled is False
    assert seen.temperature.start_c == 43.0


def test_events_report_the_repeat_and_the_cooling(board):
    events = []
    monitor = Monitor(board.system, SCREEN, never, on_event=lambda what, **details: events.append((what, details)))
    monitor.run("latency", board.process(80, throttled=[1]))
    assert [what for what, _ in events] == ["retried", "cooling"]
    assert events[0][1]["phase"] == "latency"
    assert events[1][1]["until_c"] == 43.0


def test_a_process_throttled_in_every_repeat_is_kept_and_recorded(board):
    monitor = Monitor(board.system, SCREEN, never)
    every = range(1, 9)
    assert monitor.run("latency", board.process(50, throttled=every)) == {"run": 1 + REPEATS}
    assert monitor.run("latency", board.process(50, throttled=every)) == {"run": 2 + REPEATS}
    assert [seen.throttled for seen in monitor.observations] == [True, True]
    assert monitor.observations[0].throttling == "oc3 (instantaneous over-current) by 3"


def test_a_throttled_sustained_phase_is_not_repeated(board):
    monitor = Monitor(board.system, SCREEN, never)
    assert monitor.run("sustained", board.process(80, throttled=[1])) == {"run": 1}
    assert monitor.observations[0].throttled is True


def test_a_stop_prevents_further_repeats(board):
    monitor = Monitor(board.system, SCREEN, lambda: True)
    assert monitor.run("latency", board.process(80, throttled=[1, 2, 3])) == {"run": 1}


def test_a_restarted_agent_restores_the_observations(board):
    first = Monitor(board.system, GATED, never)
    first.run("latency", board.process(60))
    second = Monitor(board.system, GATED, never)
    second.restore(first.observations[0])
    assert second.observations == first.observations
    second.run("latency", board.process(60))
    assert second.observations[1].temperature.start_c == 43.0


def test_samples_during_the_run_find_the_maximum(board, until):
    monitor = Monitor(board.system, SCREEN, never, interval_s=0.005)
    reads = []
    thermometer = monitor._thermometer.read
    monitor._thermometer.read = lambda: reads.append(1) or thermometer()

    def run():
        board.heat(71.0)
        seen = len(reads) + 1  # the next read may have started before the device got warm
        until(lambda: len(reads) > seen)
        board.heat(50.0)
        return {}

    monitor.run("latency", run)
    assert monitor.observations[0].temperature == Temperature("cpu-thermal", 40.0, 50.0, 71.0)


@pytest.fixture
def seen_while_sampled(until):
    """seen_while_sampled(tree, samples): the observation of a process; the frequency is sampled `samples` times."""

    def observe(tree, samples):
        reads = []

        class Counting(System):
            def number(self, path):
                reads.append(path)
                return super().number(path)

        def run():
            until(lambda: sum(path.endswith("scaling_max_freq") for path in reads) > samples)
            return {}

        monitor = Monitor(Counting(tree.root), SCREEN, never, interval_s=0.005)
        monitor.run("latency", run)
        return monitor.observations[0]

    return observe


def test_low_frequencies_are_reported_where_no_counter_exists(tmp_path, seen_while_sampled):
    tree = DeviceTree(str(tmp_path / "tree"))
    policy = "/sys/devices/system/cpu/cpufreq/policy0"
    tree.write(f"{policy}/scaling_max_freq", 1500000)
    tree.write(f"{policy}/scaling_cur_freq", 600000)
    seen = seen_while_sampled(tree, 1)
    assert seen.throttled is None
    assert "no processor ran above 40% of its highest frequency" in seen.throttling
    assert "no temperature sensor" in seen.reasons["temperature"]


def test_a_clock_that_a_power_limit_halves_is_not_called_unthrottled(tmp_path, seen_while_sampled):
    """A PC counts heat alone: with a power limit its counters stand still."""
    tree = DeviceTree(str(tmp_path / "tree"))
    policy = "/sys/devices/system/cpu/cpufreq/policy0"
    tree.write(f"{policy}/scaling_max_freq", 4700000)
    tree.write(f"{policy}/scaling_cur_freq", 2300000)
    tree.write("/sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count", 12)
    seen = seen_while_sampled(tree, 2)
    assert seen.throttled is None
    assert seen.throttling == "no throttling counter moved, but no processor ran above 49% of its highest frequency"


def test_a_failed_process_leaves_no_observation(board):
    def fail():
        raise ValueError("no")

    monitor = Monitor(board.system, SCREEN, never)
    with pytest.raises(ValueError, match="no"):
        monitor.run("latency", fail)
    assert monitor.observations == []
