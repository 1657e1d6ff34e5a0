"""trtexec behind its runtime, by a program that behaves as far as trtexec's words are known (fake_trtexec.py)."""

import json
import os
import shutil
import sys

import pytest

from vitsearch_evaluators.errors import MeasurementFailed
from vitsearch_evaluators.protocol import SCREEN
from vitsearch_evaluators.runtimes import trtexec
from vitsearch_evaluators.runtimes.base import Equipment
from vitsearch_evaluators.runtimes.engines import ENGINES_KEPT, EngineCache
from vitsearch_evaluators.runtimes.trtexec import TrtexecRuntime, build_flags, gpu_name, read_times, read_version
from vitsearch_evaluators.testing import RuntimeTestCase

HERE = os.path.dirname(os.path.abspath(__file__))


class FakeTool:
    """A trtexec of some version, and what it was asked for."""

    def __init__(self, folder):
        folder.mkdir()
        self._folder = folder
        self.path = str(folder / "trtexec")
        shutil.copy(os.path.join(HERE, "fake_trtexec.py"), str(folder / "fake.py"))
        (folder / "trtexec").write_text(f'#!/bin/sh\nexec {sys.executable} {folder / "fake.py"} "$@"\n')
        (folder / "trtexec").chmod(0o755)
        self.install("v8201")

    def install(self, banner):
        (self._folder / "tensorrt.json").write_text(json.dumps({"banner": banner}))

    def calls(self, flag):
        log = self._folder / "calls.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return [call for call in map(json.loads, lines) if flag in call]


@pytest.fixture
def tool(tmp_path):
    return FakeTool(tmp_path / "tensorrt")


@pytest.fixture
def equipped(tool, tmp_path, monkeypatch):
    """equipped(environment) -> the runtime as a child has it, in a folder of its own."""
    monkeypatch.chdir(tmp_path)

    def make(environment="one"):
        runtime = TrtexecRuntime()
        runtime.equipment = Equipment(tool.path, str(tmp_path / "cache"), environment)
        return runtime

    return make


class TestTrtexec(RuntimeTestCase):
    @pytest.fixture(autouse=True)
    def _parts(self, equipped, tiny_onnx):
        self.make_runtime = equipped
        self.model = tiny_onnx()

    def make_model(self, folder):
        return shutil.copy(self.model, os.path.join(folder, "model.onnx"))

    def make_options(self):
        return {"precision": "fp16"}


def prepare(runtime, path, precision="fp32"):
    runtime.prepare(path, {"precision": precision}, SCREEN)


class TestEngines:
    """Fault 26: an engine of another TensorRT or power mode is never used."""

    def test_one_engine_serves_many_processes(self, tool, equipped, tiny_onnx):
        path = tiny_onnx()
        for _ in range(3):
            prepare(equipped(), path)
            assert len(equipped().measure(path, {"precision": "fp32"}, SCREEN).wall_ms) == 200
        assert len(tool.calls("--onnx")) == 1

    def test_another_tensorrt_builds_anew_and_the_old_engine_is_not_loaded(self, tool, equipped, tiny_onnx):
        path = tiny_onnx()
        prepare(equipped(), path)
        tool.install("v100300] [b17")
        with pytest.raises(MeasurementFailed, match="the engine of this job is not there"):
            equipped().measure(path, {"precision": "fp32"}, SCREEN)
        prepare(equipped(), path)
        equipped().measure(path, {"precision": "fp32"}, SCREEN)
        assert len(tool.calls("--onnx")) == 2
        assert len({call["--loadEngine"] for call in tool.calls("--loadEngine")}) == 1

    def test_another_power_mode_model_or_precision_builds_anew(self, tool, equipped, tiny_onnx):
        one, other = tiny_onnx(), tiny_onnx(batch=1, name="other.onnx")
        prepare(equipped("15W"), one)
        prepare(equipped("7W"), one)
        prepare(equipped("15W"), other)
        prepare(equipped("15W"), one, "fp16")
        assert len({call["--saveEngine"] for call in tool.calls("--onnx")}) == 4

    def test_another_gpu_builds_anew(self, tool, equipped, tiny_onnx, monkeypatch):
        path = tiny_onnx()
        prepare(equipped(), path)
        monkeypatch.setattr(trtexec, "gpu_name", lambda: "another one")
        prepare(equipped(), path)
        assert len(tool.calls("--onnx")) == 2

    @pytest.mark.parametrize("damage", ["engine", "description"])
    def test_what_is_damaged_is_built_anew(self, tool, equipped, tiny_onnx, tmp_path, damage):
        path = tiny_onnx()
        prepare(equipped(), path)
        (engine,) = (tmp_path / "cache" / "engines").glob("*.engine" + (".json" if damage == "description" else ""))
        engine.write_bytes(engine.read_bytes()[:-1])
        prepare(equipped(), path)
        assert len(tool.calls("--onnx")) == 2

    def test_an_engine_that_does_not_load_is_dropped(self, tool, equipped, tiny_onnx, monkeypatch):
        path = tiny_onnx()
        prepare(equipped(), path)
        key = equipped()._key(path, (8, 2, 1), build_flags((8, 2, 1), "fp32"))
        monkeypatch.setattr(TrtexecRuntime, "_build", lambda self, options: ((8, 2, 1), build_flags((8, 2, 1), "fp32")))
        tool.install("v8401")
        with pytest.raises(MeasurementFailed, match="not compatible with this version"):
            equipped().measure(path, {"precision": "fp32"}, SCREEN)
        assert equipped()._cache().find(key) is None

    def test_a_build_that_fails_leaves_nothing(self, tmp_path):
        cache = EngineCache(str(tmp_path / "engines"))

        def build(path):
            with open(path, "w") as stream:
                stream.write("half")
            raise RuntimeError("no")

        with pytest.raises(RuntimeError):
            cache.make({"a": 1}, build)
        assert os.listdir(str(tmp_path / "engines")) == []

    def test_the_least_recently_used_go(self, tmp_path):
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


def test_what_it_tells_and_what_it_does_not(equipped, tiny_onnx):
    path = tiny_onnx()
    prepare(equipped(), path)
    times = equipped().measure(path, {"precision": "fp32"}, SCREEN)
    assert times.wall_ms[:2] == [2.5, 2.51]
    assert times.load_ms == pytest.approx(12.5)
    assert times.settled == {"gpu_compute_ms_p50": 2.0}
    assert times.reasons["cpu_ms"] == "the program tells no CPU time"


def test_another_batch_is_refused(equipped, tiny_onnx):
    with pytest.raises(MeasurementFailed, match="asks for 8"):
        equipped().prepare(tiny_onnx(), {"precision": "fp32"}, SCREEN._replace(batch=8))


@pytest.mark.parametrize(
    ("banner", "version"),
    [("v8201", (8, 2, 1)), ("v8601", (8, 6, 1)), ("v100300] [b17", (10, 3, 0)), ("v101602] [b10", (10, 16, 2)),
     ("v11.1.0.106] [b48", (11, 1, 0)), ("v", None), ("v1.2", None), ("v123", None)],
)  # fmt: skip
def test_the_version_in_its_first_line(banner, version):
    assert read_version(f"&&&& RUNNING TensorRT.trtexec [TensorRT {banner}] # trtexec --help") == version


def test_no_version_is_unavailable(tool, equipped):
    tool.install("x")
    state = equipped().available()
    assert not state.available
    assert "does not say which TensorRT" in state.reason


def test_each_version_is_told_all_that_its_defaults_would_change():
    assert build_flags((8, 2, 1), "fp32") == ["--workspace=1024", "--buildOnly", "--noTF32"]
    assert build_flags((10, 3, 0), "int8") == [
        "--memPoolSize=workspace:1024",
        "--skipInference",
        "--noTF32",
        "--int8",
        "--fp16",
    ]
    with pytest.raises(MeasurementFailed, match="11.1.0 takes fp16 from the model alone"):
        build_flags((11, 1, 0), "fp16")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '[{"latencyMs": 1}]',
        "[1]",
        json.dumps([{"latencyMs": -1, "startComputeMs": 0, "endComputeMs": 1}] * 20),
    ],
)
def test_times_that_are_none_are_a_protocol_failure(tmp_path, content):
    (tmp_path / "times.json").write_text(content)
    with pytest.raises(MeasurementFailed) as caught:
        read_times(str(tmp_path / "times.json"))
    assert caught.value.kind == "protocol"


def test_the_gpus_name_is_the_drivers_or_the_boards(tmp_path):
    assert gpu_name(str(tmp_path)) == "unknown GPU"
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("NVIDIA Orin Nano\0")
    assert gpu_name(str(tmp_path)) == "NVIDIA Orin Nano"
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information").write_text("Model: \t\t NVIDIA T4\nIRQ: 5\n")
    assert gpu_name(str(tmp_path)) == "NVIDIA T4"


def test_through_the_agent(tool, tiny_onnx, serve_agent, tiny_protocol):
    served = serve_agent(config={"runtimes": {"trtexec": {"tool": tool.path}}})
    with served.client() as client:
        (told,) = [runtime for runtime in client.device().runtimes if runtime.name == "trtexec"]
        one = client.measure(tiny_onnx(), "trtexec", {"precision": "fp16"}, tiny_protocol._replace(processes=2))
        with pytest.raises(MeasurementFailed, match="measures latency alone"):
            client.measure(tiny_onnx(), "trtexec", {"precision": "fp16"}, tiny_protocol._replace(soak_s=0.1))
    assert (told.available, told.version, told.program) == (True, "8.2.1", tool.path)
    assert (one.latency_ms.n, one.latency_ms.p50, one.cpu_ms) == (22, 2.5, None)
    assert one.reasons["first_inference_ms"]
    assert one.options["gpu_compute_ms_p50"] == 2.0
    assert len(tool.calls("--onnx")) == 1
