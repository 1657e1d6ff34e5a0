import threading

import pytest

from vitsearch_agent.errors import InvalidRequest, MeasurementFailed
from vitsearch_agent.measure.child.measured_model import MeasuredModel, make_measured_model
from vitsearch_agent.measure.child.phase_reports import PowerReport, ThroughputReport
from vitsearch_agent.measure.child.phases import run_phase
from vitsearch_agent.measure.child.timed_loop import Clocks, spread
from vitsearch_agent.runtimes import create
from vitsearch_agent.runtimes.base import Availability, Runtime, Session
from vitsearch_agent.wire.measure_protocol import MOST_RUNS


class Model(Session):
    """Each run takes `wall_s` on its own clock, and twice that after the first `slow_from` runs."""

    def __init__(self, wall_s, slow_from=10**9, batch=1):
        self.batch = batch
        self.wall_s, self.slow_from = wall_s, slow_from
        self.now_s = 0.0
        self.runs = 0
        self.rests = []

    def run(self):
        self.runs += 1
        self.now_s += self.wall_s * (2 if self.runs > self.slow_from else 1)

    def close(self):
        raise AssertionError("a crash here would lose the samples")

    def sleep(self, seconds):
        self.rests.append(self.runs)
        self.now_s += seconds

    @property
    def clocks(self):
        return Clocks(lambda: self.now_s, lambda: 0.0, lambda: 1000.0 + self.now_s, self.sleep)


class Loaded(Runtime):
    name = "loaded"

    def __init__(self, make):
        self.make = make

    def available(self):
        return Availability(True, None, "1", ())

    def load(self, path, options, threads, batch, shapes):
        return self.make()


def measured(make, protocol):
    return MeasuredModel(Loaded(make), "1", "model.onnx", {}, protocol)


def test_latency_is_timed_with_the_given_clocks(tmp_path, tiny_protocol):
    (tmp_path / "model").write_bytes(b"x")
    ticks = iter(range(10_000))
    noop = make_measured_model(create("noop"), str(tmp_path / "model"), {"busy_us": 0}, tiny_protocol)
    report = run_phase("latency", noop, Clocks(lambda: float(next(ticks)), lambda: 0.0))
    assert report["load_ms"] == report["first_inference_ms"] == 1000.0
    assert report["wall_ms"] == (1000.0,) * 11
    assert report["options"] == {"busy_us": 0}


def test_sustained_samples_come_after_the_soak(tiny_protocol):
    model = Model(0.1, slow_from=60)
    report = run_phase("sustained", measured(lambda: model, tiny_protocol._replace(soak_s=60.0)), model.clocks)
    assert model.runs > 300
    assert report["wall_ms"] == pytest.approx([200.0] * 11)
    assert report["first_inference_ms"] == pytest.approx(100.0)


def test_the_power_phase_reports_its_windows_and_inferences(tiny_protocol):
    model = Model(0.3, batch=8)
    protocol = tiny_protocol._replace(power_s=1.0, idle_s=2.0)
    report = PowerReport.from_json(run_phase("power", measured(lambda: model, protocol), model.clocks))
    assert report.idle_before == pytest.approx((1000.3, 1002.3)), "one run of warm-up comes first"
    assert report.load == pytest.approx((1002.3, 1003.5)), "whole runs only, so a little more than a second"
    assert report.idle_after == pytest.approx((1003.5, 1005.5))
    assert report.inferences == 4 * 8
    assert model.rests == [1, 5]


def test_streams_run_at_the_same_time(tiny_protocol):
    everybody = threading.Barrier(3)

    class Together(Session):
        """A run ends only when all three streams run: streams that take turns would wait for ever."""

        def run(self):
            everybody.wait(60.0)

        def close(self):
            pass

    protocol = tiny_protocol._replace(throughput_s=0.0, streams=3, warmup_min_runs=0)
    report = ThroughputReport.from_json(run_phase("throughput", measured(Together, protocol), Clocks()))
    assert report.runs == 3


def test_throughput_counts_images_and_not_batches_and_has_the_time_of_each_run(tiny_protocol):
    model = Model(0.5, batch=4)
    protocol = tiny_protocol._replace(throughput_s=10.0, streams=1, warmup_min_runs=0)
    report = ThroughputReport.from_json(run_phase("throughput", measured(lambda: model, protocol), model.clocks))
    assert (report.runs, report.images_per_s) == (20, 8.0)
    assert report.wall_ms == (500.0,) * 20


@pytest.mark.parametrize(
    ("count", "kept"), [(0, 0), (1, 1), (MOST_RUNS, MOST_RUNS), (MOST_RUNS + 1, MOST_RUNS // 2 + 1)]
)
def test_a_report_has_times_from_all_of_a_phase(count, kept):
    times = spread(range(count))
    assert len(times) == kept
    assert times[-1:] in [(), (count - 1,)]


def test_an_error_in_a_stream_fails_the_phase(tiny_protocol):
    class Broken(Model):
        def run(self):
            raise MeasurementFailed("out_of_memory", "no memory left")

    protocol = tiny_protocol._replace(throughput_s=1.0, streams=2, warmup_min_runs=0)
    with pytest.raises(MeasurementFailed, match="no memory left"):
        run_phase("throughput", measured(lambda: Broken(0.1), protocol), Clocks())


def test_unknown_phases_and_windows_without_two_ends_are_refused(tiny_protocol):
    with pytest.raises(MeasurementFailed, match="unknown phase 'nap'"):
        run_phase("nap", measured(lambda: Model(0.1), tiny_protocol), Clocks())
    whole = PowerReport((0.0, 1.0), (1.0, 2.0), (2.0, 3.0), 4).to_json()
    with pytest.raises(InvalidRequest, match="load: expected .start, end."):
        PowerReport.from_json(dict(whole, load=[1.0]))
    assert PowerReport.from_json(whole) == PowerReport(**whole)
