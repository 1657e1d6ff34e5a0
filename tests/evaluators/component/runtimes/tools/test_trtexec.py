"""The runtime of trtexec, with a program that behaves like trtexec as far as it is documented (fake_trtexec.py)."""

import json
import os
import shutil
import sys
import time

import pytest

from support import SUPPORT
from vitsearch_evaluators.artifacts.onnx_file import CALIBRATION
from vitsearch_evaluators.base.onnx_writer import Value, field, model, node
from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.runtimes.base import RuntimeContext
from vitsearch_evaluators.runtimes.tools import trtexec
from vitsearch_evaluators.runtimes.tools.engines import ENGINES_KEPT, EngineCache
from vitsearch_evaluators.runtimes.tools.tool import NotProvided
from vitsearch_evaluators.runtimes.tools.trtexec import TrtexecRuntime, gpu_name, has_int8
from vitsearch_evaluators.runtimes.tools.trtexec_flags import (
    CALIBRATION_CACHE,
    build_flags,
    calibration_cache,
    read_version,
    stream_flags,
)
from vitsearch_evaluators.testing import RuntimeTestCase
from vitsearch_evaluators.wire.protocol import SCREEN


class FakeTool:
    """A fake trtexec of some version that records its calls."""

    def __init__(self, folder):
        folder.mkdir()
        self._folder = folder
        self.path = str(folder / "trtexec")
        shutil.copy(os.path.join(SUPPORT, "fake_trtexec.py"), str(folder / "fake.py"))
        (folder / "trtexec").write_text(f'#!/bin/sh\nexec {sys.executable} {folder / "fake.py"} "$@"\n')
        (folder / "trtexec").chmod(0o755)
        self.install("v8201")

    def install(self, banner, **special):
        (self._folder / "tensorrt.json").write_text(json.dumps(dict(special, banner=banner)))

    def calls(self, flag):
        log = self._folder / "calls.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [call for call in map(json.loads, lines) if flag in call]


@pytest.fixture
def tool(tmp_path):
    return FakeTool(tmp_path / "tensorrt")


@pytest.fixture
def equipped(tool, tmp_path, monkeypatch):
    """Make a runtime as the child has it: equipped(environment) -> TrtexecRuntime."""
    monkeypatch.chdir(tmp_path)

    def make(environment="one"):
        runtime = TrtexecRuntime()
        runtime.context = RuntimeContext(tool.path, str(tmp_path / "cache"), environment)
        return runtime

    return make


@pytest.fixture
def plain_onnx(tmp_path):
    """Write a model without the package onnx, which a Jetson Nano's Python lacks: plain_onnx(width=8) -> path."""

    def write(width=8, batch=1, name="image"):
        ends = Value(name, "float32", (batch, width)), Value("logits", "float32", (batch, width))
        path = tmp_path / f"{width}.onnx"
        path.write_bytes(model([node("Identity", [name], "logits")], [ends[0]], [ends[1]], 13, 7))
        return str(path)

    return write


class TestTrtexec(RuntimeTestCase):
    @pytest.fixture(autouse=True)
    def _parts(self, equipped, plain_onnx):
        self.make_runtime = equipped
        self.model = plain_onnx()

    def make_model(self, folder):
        return shutil.copy(self.model, os.path.join(folder, "model.onnx"))

    def make_options(self):
        return {"precision": "fp16"}


FP32 = {"precision": "fp32"}


def prepare(runtime, path, precision="fp32"):
    runtime.prepare(path, {"precision": precision}, SCREEN)


class TestEngines:
    """Fault 26: an engine of another TensorRT version or power mode is never used."""

    def test_one_engine_serves_many_processes(self, tool, equipped, plain_onnx):
        path = plain_onnx()
        for _ in range(3):
            prepare(equipped(), path)
            assert len(equipped().measure(path, {"precision": "fp32"}, SCREEN).wall_ms) >= SCREEN.min_runs
        assert len(tool.calls("--onnx")) == 1

    def test_another_tensorrt_builds_a_new_engine_and_never_loads_the_old_one(self, tool, equipped, plain_onnx):
        path = plain_onnx()
        prepare(equipped(), path)
        tool.install("v100300] [b17")
        with pytest.raises(MeasurementFailed, match="the engine of this job is missing"):
            equipped().measure(path, {"precision": "fp32"}, SCREEN)
        prepare(equipped(), path)
        equipped().measure(path, {"precision": "fp32"}, SCREEN)
        assert len(tool.calls("--onnx")) == 2
        assert len({call["--loadEngine"] for call in tool.calls("--loadEngine")}) == 1

    def test_another_power_mode_model_or_precision_builds_a_new_engine(self, tool, equipped, plain_onnx):
        one, other = plain_onnx(), plain_onnx(width=9)
        prepare(equipped("15W"), one)
        prepare(equipped("7W"), one)
        prepare(equipped("15W"), other)
        prepare(equipped("15W"), one, "fp16")
        assert len({call["--saveEngine"] for call in tool.calls("--onnx")}) == 4

    def test_another_gpu_builds_a_new_engine(self, tool, equipped, plain_onnx, monkeypatch):
        path = plain_onnx()
        prepare(equipped(), path)
        monkeypatch.setattr(trtexec, "gpu_name", lambda: "another one")
        prepare(equipped(), path)
        assert len(tool.calls("--onnx")) == 2

    @pytest.mark.parametrize("damage", ["engine", "description"])
    def test_a_damaged_engine_is_built_again(self, tool, equipped, plain_onnx, tmp_path, damage):
        path = plain_onnx()
        prepare(equipped(), path)
        (engine,) = (tmp_path / "cache" / "engines").glob("*.engine" + (".json" if damage == "description" else ""))
        engine.write_bytes(engine.read_bytes()[:-1])
        prepare(equipped(), path)
        assert len(tool.calls("--onnx")) == 2

    def test_an_engine_that_does_not_load_is_dropped(self, tool, equipped, plain_onnx, monkeypatch):
        path = plain_onnx()
        prepare(equipped(), path)
        key = equipped()._key(path, FP32, SCREEN)
        monkeypatch.setattr(TrtexecRuntime, "_build", lambda self, options: ((8, 2, 1), build_flags((8, 2, 1), "fp32")))
        tool.install("v8401")
        with pytest.raises(MeasurementFailed, match="not compatible with this version"):
            equipped().measure(path, FP32, SCREEN)
        assert equipped()._cache().find(key) is None

    def test_a_failed_build_leaves_no_file(self, tmp_path):
        cache = EngineCache(str(tmp_path / "engines"))

        def build(path):
            with open(path, "w") as stream:
                stream.write("half")
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            cache.make({"a": 1}, build)
        assert os.listdir(str(tmp_path / "engines")) == []

    def test_the_least_recently_used_engine_is_evicted(self, tmp_path):
        cache = EngineCache(str(tmp_path / "engines"))

        def build(path):
            with open(path, "w") as stream:
                stream.write("engine")

        for number in range(ENGINES_KEPT):
            os.utime(cache.make({"n": number}, build), (number, number))
        assert cache.find({"n": 0}) is not None
        cache.make({"n": "new"}, build)
        assert cache.find({"n": 1}) is None
        assert cache.find({"n": 0}) is not None


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

    def test_loading_and_warm_up_are_outside_the_window(self, tool, equipped, plain_onnx):
        tool.install("v8201", sleeps=True, before_s=0.1, after_s=0.02)
        path = plain_onnx()
        prepare(equipped(), path)
        before = time.monotonic()
        found = equipped().power_load(path, FP32, SCREEN._replace(power_s=3.0, warmup_min_s=0.3))
        after = time.monotonic()
        start, end = found.window
        # The unknown time may lie before or after the runs, so the window excludes it at both ends.
        assert before + 0.1 + 0.3 <= start < end <= after
        assert 2.7 < end - start < 3.0
        assert found.runs == pytest.approx((end - start) / 0.003, abs=3)

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
        path, given = plain_onnx(width="width", batch="batch"), SCREEN._replace(shapes={"image": (1, 8)})
        with pytest.raises(MeasurementFailed, match="give, for example, --shape image=1,224"):
            equipped().prepare(path, FP32, SCREEN)
        equipped().prepare(path, FP32, given)
        equipped().measure(path, FP32, given)
        assert [call["--shapes"] for call in tool.calls("--shapes")] == ["image:1x8", "image:1x8"]
        assert equipped().sizes(path, given) == (1, {"image": (1, 8)})
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


@pytest.mark.parametrize(
    ("banner", "version"),
    [("v8201", (8, 2, 1)), ("v8601", (8, 6, 1)), ("v100300] [b17", (10, 3, 0)), ("v101602] [b10", (10, 16, 2)),
     ("v11.1.0.106] [b48", (11, 1, 0)), ("v", None), ("v1.2", None), ("v123", None)],
)  # fmt: skip
def test_the_version_is_parsed_from_the_first_line(banner, version):
    assert read_version(f"&&&& RUNNING TensorRT.trtexec [TensorRT {banner}] # trtexec --help") == version


def test_a_trtexec_without_a_version_is_unavailable(tool, equipped):
    tool.install("x")
    state = equipped().available()
    assert not state.available
    assert "does not print its TensorRT version" in state.reason


def test_each_version_gets_every_relevant_build_flag():
    assert build_flags((8, 2, 1), "fp32") == ["--workspace=1024", "--buildOnly", "--noTF32"]
    assert build_flags((10, 3, 0), "int8") == [
        "--memPoolSize=workspace:1024",
        "--skipInference",
        "--noTF32",
        "--int8",
        "--fp16",
    ]
    with pytest.raises(MeasurementFailed, match="11.1.0 has no flag for fp16"):
        build_flags((11, 1, 0), "fp16")


def test_a_typed_model_needs_a_flag_in_tensorrt_10_only():
    assert "--stronglyTyped" in build_flags((10, 3, 0), "typed")
    assert build_flags((11, 1, 0), "typed") == build_flags((11, 1, 0), "fp32")
    with pytest.raises(
        MeasurementFailed, match="8.6.1 does not take the precision from the model, 10.0.0 and newer do"
    ):
        build_flags((8, 6, 1), "typed")


def test_sparse_kernels_are_tried_on_request_and_are_part_of_the_engine(tool, equipped, plain_onnx):
    assert not [flag for flag in build_flags((8, 2, 1), "fp16") if "sparsity" in flag]
    path = plain_onnx()
    for sparsity in ("disable", "enable"):
        options = equipped().check_options({"precision": "fp16", "sparsity": sparsity})
        equipped().prepare(path, options, SCREEN)
    dense, sparse = tool.calls("--onnx")
    assert ("--sparsity" in dense, sparse["--sparsity"]) == (False, "enable")
    assert dense["--saveEngine"] != sparse["--saveEngine"]


class TestCalibration:
    """A model whose metadata has the scales of its tensors, for versions that fuse no explicit int8."""

    SCALES = "image: 3c008912\nlogits: 3d895e44\n"

    @pytest.fixture
    def calibrated(self, tmp_path):
        """Write a model of one convolution: calibrated(scales) -> path."""

        def write(scales=self.SCALES):
            ends = Value("image", "float32", (1, 8)), Value("logits", "float32", (1, 8))
            plain = model([node("Conv", ["image", "weight"], "logits")], [ends[0]], [ends[1]], 13, 7)
            path = tmp_path / "calibrated.onnx"
            path.write_bytes(plain + field(14, field(1, CALIBRATION.encode()) + field(2, scales.encode())))
            return str(path)

        return write

    @pytest.mark.parametrize(
        ("version", "header"),
        [((8, 0, 1), "TRT-8001"), ((8, 2, 1), "TRT-8201"), ((10, 3, 0), "TRT-100300")],
    )
    def test_the_cache_names_the_version_that_reads_it(self, version, header):
        assert calibration_cache(version, self.SCALES) == f"{header}-EntropyCalibration2\n{self.SCALES}"

    @pytest.mark.parametrize("banner", ["v8001", "v8201", "v8502", "v100300] [b17"])
    def test_every_version_with_the_flag_takes_it(self, banner, tool, equipped, calibrated):
        tool.install(banner)
        prepare(equipped(), calibrated(), "int8")
        (call,) = tool.calls("--onnx")
        assert (call["--calib"], call["layers_in_int8"]) == (CALIBRATION_CACHE, ["logits"])

    @pytest.mark.parametrize("precision", ["fp32", "fp16"])
    def test_other_precisions_do_not_use_it(self, precision, tool, equipped, calibrated):
        prepare(equipped(), calibrated(), precision)
        assert not tool.calls("--calib")

    def test_other_scales_build_a_new_engine(self, tool, equipped, calibrated):
        for scales in (self.SCALES, self.SCALES.replace("3c", "3d"), self.SCALES):
            prepare(equipped(), calibrated(scales), "int8")
        assert len({call["--saveEngine"] for call in tool.calls("--onnx")}) == len(tool.calls("--onnx")) == 2

    def test_a_cache_of_another_graph_fails_the_build(self, equipped, calibrated):
        with pytest.raises(MeasurementFailed, match="the cache does not fit the graph: .'elsewhere'."):
            prepare(equipped(), calibrated("image: 3c008912\nelsewhere: 3c008912\n"), "int8")

    def test_a_cache_of_another_version_fails_the_build(self, equipped, calibrated, monkeypatch):
        monkeypatch.setattr(trtexec, "calibration_cache", lambda version, scales: calibration_cache((8, 4, 1), scales))
        with pytest.raises(MeasurementFailed, match="Calibration table does not match") as caught:
            prepare(equipped(), calibrated(), "int8")
        assert caught.value.kind == "incompatible_artifact"


@pytest.mark.parametrize(
    ("chip", "computes"), [("tegra210", False), ("tegra186", False), ("tegra194", True), (None, True)]
)
def test_int8_is_not_offered_on_a_board_whose_gpu_lacks_it(chip, computes, tmp_path):
    if chip is not None:
        (tmp_path / "proc/device-tree").mkdir(parents=True)
        (tmp_path / "proc/device-tree/compatible").write_text(f"nvidia,a-board\0nvidia,{chip}\0")
    assert has_int8(str(tmp_path)) == computes


def test_a_board_without_int8_offers_the_other_precisions(equipped, monkeypatch):
    monkeypatch.setattr(trtexec, "has_int8", lambda: False)
    assert equipped().available().precisions == ("fp32", "fp16")


def test_every_precision_is_offered_because_a_typed_model_has_it_in_itself(tool, equipped):
    tool.install("v11.1.0.106] [b48")
    assert equipped().available().precisions == ("fp32", "fp16", "int8")


def test_the_name_of_the_gpu_comes_from_the_driver_or_the_board(tmp_path):
    assert gpu_name(str(tmp_path)) == "unknown GPU"
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("NVIDIA Orin Nano\0")
    assert gpu_name(str(tmp_path)) == "NVIDIA Orin Nano"
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information").write_text("Model: \t\t NVIDIA T4\nIRQ: 5\n")
    assert gpu_name(str(tmp_path)) == "NVIDIA T4"


def test_an_agent_measures_with_trtexec(tool, plain_onnx, serve_agent, tiny_protocol):
    served = serve_agent(config={"runtimes": {"trtexec": {"tool": tool.path}}})
    with served.client() as client:
        (info,) = [runtime for runtime in client.device().runtimes if runtime.name == "trtexec"]
        one = client.measure(
            plain_onnx(), "trtexec", {"precision": "fp16"}, tiny_protocol._replace(processes=2, max_processes=2)
        )
        protocol = tiny_protocol._replace(soak_s=0.1, throughput_s=1.0, streams=2, power_s=1.0)
        complete = client.measure(plain_onnx(), "trtexec", {"precision": "fp16"}, protocol)
        tool.install("v8201", most_streams=1)
        partial = client.measure(plain_onnx(), "trtexec", {"precision": "fp16"}, protocol, repeat=1)
    assert (info.available, info.version, info.program) == (True, "8.2.1", tool.path)
    assert (one.processes, one.latency_ms.p50, one.cpu_ms) == (2, 2.5, None)
    assert one.reasons["paired"] == "the protocol has no reference models"
    assert one.reasons["first_inference_ms"]
    assert one.options["gpu_compute_ms_p50"] == 2.0
    assert complete.sustained.p50 == 2.5
    assert complete.throughput_ips == pytest.approx(2 * 1e3 / 3.0, rel=0.01)
    assert (complete.power, "power" in complete.reasons) == (None, True)
    assert (partial.throughput_ips, partial.sustained) == (None, complete.sustained)
    assert partial.reasons["throughput_ips"].startswith("with 2 streams: ")
    assert len(tool.calls("--onnx")) == 1
