"""The runtime of trtexec, with a program that behaves like trtexec as far as it is documented (fake_trtexec.py)."""

import os
import shutil
import time

import pytest

from support.trtexec_tool import FP32, prepare
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.tools import trtexec_times
from vitsearch_agent.runtimes.tools.tool_runtime import NotProvided
from vitsearch_agent.runtimes.tools.trtexec_flags import (
    stream_flags,
)
from vitsearch_agent.testing import RuntimeTestCase
from vitsearch_agent.wire.protocol import SCREEN


class TestTrtexec(RuntimeTestCase):
    @pytest.fixture(autouse=True)
    def _parts(self, equipped, plain_onnx):
        self.make_runtime = equipped
        self.model = plain_onnx()

    def make_model(self, folder):
        return shutil.copy(self.model, os.path.join(folder, "model.onnx"))

    def make_options(self):
        return {"precision": "fp16"}


def test_reported_times_and_reasons_for_missing_figures(equipped, plain_onnx):
    path = plain_onnx()
    prepare(equipped(), path)
    times = equipped().measure(path, {"precision": "fp32"}, SCREEN)
    assert times.wall_ms[:2] == [2.5, 2.51]
    assert times.load_ms == pytest.approx(12.5)
    assert times.reported_options == {"gpu_compute_ms_p50": 2.0}
    assert times.reasons["cpu_ms"] == "the program reports no CPU time"


@pytest.mark.parametrize("banner", ["v8201", "v8503", "v100300] [b17"])
def test_runs_of_the_warm_up_are_not_samples_in_any_version(banner, tool, equipped, plain_onnx):
    tool.install(banner)
    path = plain_onnx()
    prepare(equipped(), path)
    assert set(equipped().measure(path, FP32, SCREEN._replace(warmup_min_s=0.5)).wall_ms) == {2.5, 2.51}


def test_a_long_soak_is_a_separate_run_and_its_end_the_warm_up_of_the_samples(tool, equipped, plain_onnx):
    path = plain_onnx()
    prepare(equipped(), path)
    times = equipped().sustained(path, FP32, SCREEN._replace(soak_s=600.0))
    assert set(times.wall_ms) == {2.5, 2.51}
    soak, timed = tool.calls("--loadEngine")
    assert (soak["--duration"], soak["--warmUp"], "--exportTimes" in soak) == ("570", "0", False)
    assert (timed["--duration"], timed["--warmUp"]) == ("1", "30100")


def test_a_short_soak_is_a_longer_warm_up(tool, equipped, plain_onnx):
    path = plain_onnx()
    prepare(equipped(), path)
    equipped().sustained(path, FP32, SCREEN._replace(soak_s=5.0))
    (timed,) = tool.calls("--loadEngine")
    assert timed["--warmUp"] == "5100"


class TestThroughput:
    @pytest.mark.parametrize(("banner", "flag"), [("v8201", "--streams"), ("v100300] [b17", "--infStreams")])
    def test_the_runs_of_all_streams_are_counted(self, banner, flag, tool, equipped, plain_onnx):
        tool.install(banner)
        path = plain_onnx()
        prepare(equipped(), path)
        protocol = SCREEN._replace(throughput_s=4.5, streams=3)
        counted = equipped().throughput(path, FP32, protocol)
        (call,) = tool.calls("--loadEngine")
        assert (call[flag], call["--threads"], call["--duration"]) == ("3", "", "5")
        assert counted.runs == pytest.approx(3 * 5e3 / 3.0, abs=6)
        assert counted.runs_per_s == pytest.approx(1e3, rel=1e-3)
        assert len(counted.wall_ms) == counted.runs

    def test_one_stream_needs_no_flag(self, tool, equipped, plain_onnx):
        path = plain_onnx()
        prepare(equipped(), path)
        assert equipped().throughput(path, FP32, SCREEN._replace(throughput_s=3.0)).runs_per_s == pytest.approx(
            1e3 / 3, rel=1e-3
        )
        (call,) = tool.calls("--loadEngine")
        assert not {"--streams", "--infStreams", "--threads"} & set(call)

    def test_rejected_streams_are_a_reason_and_the_engine_is_kept(self, tool, equipped, plain_onnx):
        tool.install("v8201", most_streams=1)
        path = plain_onnx()
        prepare(equipped(), path)
        with pytest.raises(NotProvided, match="with 2 streams: .* Unable to create execution context"):
            equipped().throughput(path, FP32, SCREEN._replace(throughput_s=1.0, streams=2))
        assert equipped().measure(path, FP32, SCREEN).wall_ms

    def test_a_version_without_a_flag_for_streams_is_a_reason(self):
        with pytest.raises(NotProvided, match="no flag for 2 streams"):
            stream_flags("--iterations=N", 2)


class TestPower:
    """The window of the steady runs on the machine's clock."""

    @pytest.mark.long
    def test_loading_and_warm_up_are_outside_the_window(self, tool, equipped, plain_onnx, monkeypatch):
        monkeypatch.setattr(trtexec_times, "_MOST_UNKNOWN", 1.0)  # a busy machine adds to the unknown time
        tool.install("v8201", sleeps=True, before_s=0.5, after_s=0.02)
        path = plain_onnx()
        prepare(equipped(), path)
        before = time.monotonic()
        load = equipped().power_load(path, FP32, SCREEN._replace(power_s=3.0, warmup_min_s=0.3))
        after = time.monotonic()
        start, end = load.window
        # The unknown time may lie before or after the runs, so the window excludes it at both ends.
        assert before + 0.5 + 0.3 <= start < end <= after
        assert load.runs == pytest.approx((end - start) / 0.003, abs=3)

    def test_delayed_output_is_a_reason(self, tool, equipped, plain_onnx):
        path = plain_onnx()
        prepare(equipped(), path)
        with pytest.raises(NotProvided, match="trtexec's output was delayed"):
            equipped().power_load(path, FP32, SCREEN._replace(power_s=1.0))

    def test_an_uncertain_window_is_a_reason(self, tool, equipped, plain_onnx):
        tool.install("v8201", sleeps=True, before_s=0.2)
        path = plain_onnx()
        prepare(equipped(), path)
        with pytest.raises(NotProvided, match="the start is only known to within"):
            equipped().power_load(path, FP32, SCREEN._replace(power_s=1.0, warmup_min_s=0.2))


def test_another_batch_is_refused(equipped, plain_onnx):
    with pytest.raises(MeasurementFailed, match="batch 8 was requested"):
        equipped().prepare(plain_onnx(), FP32, SCREEN._replace(batch=8))


class TestShapes:
    def test_open_dimensions_are_set_and_are_part_of_the_engine(self, tool, equipped, plain_onnx):
        path, protocol = plain_onnx(width="width", batch="batch"), SCREEN._replace(shapes={"image": (1, 8)})
        with pytest.raises(MeasurementFailed, match="give, for example, --shape image=1,224"):
            equipped().prepare(path, FP32, SCREEN)
        equipped().prepare(path, FP32, protocol)
        equipped().measure(path, FP32, protocol)
        assert [call["--shapes"] for call in tool.calls("--shapes")] == ["image:1x8", "image:1x8"]
        assert equipped().sizes(path, protocol) == (1, {"image": (1, 8)})
        equipped().prepare(path, FP32, SCREEN._replace(shapes={"image": (1, 16)}))
        assert len({call["--saveEngine"] for call in tool.calls("--onnx")}) == 2

    def test_a_model_without_open_dimensions_takes_no_shapes(self, tool, equipped, plain_onnx):
        prepare(equipped(), plain_onnx())
        assert tool.calls("--shapes") == []

    def test_a_run_at_other_shapes_is_refused(self, equipped, plain_onnx):
        path = plain_onnx(width=16)
        prepare(equipped(), path)
        with pytest.raises(MeasurementFailed, match="trtexec ran input 'image' at 1x8, not at 1x16"):
            equipped().measure(path, FP32, SCREEN)

    @pytest.mark.parametrize(("name", "flag"), [("image:0", "'image:0':3x8"), ("an image", None), ("it's", None)])
    def test_special_names_are_quoted_or_refused(self, equipped, plain_onnx, tool, name, flag):
        path, batch_3 = plain_onnx(batch="batch", name=name), SCREEN._replace(batch=3)
        if flag is None:
            with pytest.raises(MeasurementFailed, match="trtexec takes no shape for an input with the name"):
                equipped().prepare(path, FP32, batch_3)
        else:
            equipped().prepare(path, FP32, batch_3)
            assert tool.calls("--onnx")[0]["--shapes"] == flag


def test_an_agent_measures_with_trtexec(tool, plain_onnx, serve_agent, tiny_protocol):
    tool.install("v8201", sleeps=True)  # an agent compares what it reports with the time that it was there
    writable = [os.path.dirname(tool.path)]  # the fake one records its calls beside itself
    served = serve_agent(config={"runtimes": {"trtexec": {"tool": tool.path, "writable": writable}}})
    with served.client() as client:
        (info,) = [runtime for runtime in client.device().runtimes if runtime.name == "trtexec"]
        measurement = client.measure(
            plain_onnx(), "trtexec", {"precision": "fp16"}, tiny_protocol._replace(processes=2, max_processes=2)
        )
        protocol = tiny_protocol._replace(soak_s=0.1, throughput_s=0.1, streams=2, power_s=1.0)
        complete = client.measure(plain_onnx(), "trtexec", {"precision": "fp16"}, protocol)
        tool.install("v8201", most_streams=1, sleeps=True)
        partial = client.measure(plain_onnx(), "trtexec", {"precision": "fp16"}, protocol, repeat=1)
    assert (info.available, info.version, info.program) == (True, "8.2.1", tool.path)
    assert (measurement.processes, measurement.cpu_ms) == (2, None)
    assert measurement.latency_ms.p50 == pytest.approx(2.5, abs=0.01)
    assert measurement.reasons["paired"] == "the protocol has no reference models"
    assert measurement.reasons["first_inference_ms"]
    assert measurement.options["gpu_compute_ms_p50"] == 2.0
    assert complete.sustained.p50 == pytest.approx(2.5, abs=0.01)
    assert complete.throughput_ips == pytest.approx(2 * 1e3 / 3.0, rel=0.01)
    assert (complete.power, "power" in complete.reasons) == (None, True)
    assert partial.throughput_ips is None
    assert partial.sustained.p50 == pytest.approx(2.5, abs=0.01)
    assert partial.reasons["throughput_ips"].startswith("with 2 streams: ")
    assert len(tool.calls("--onnx")) == 1
