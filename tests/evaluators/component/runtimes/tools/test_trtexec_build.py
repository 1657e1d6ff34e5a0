"""What trtexec builds: engines for a version, a board, precisions and calibrations."""

import os

import pytest

from support.trtexec_tool import FP32, prepare
from vitsearch_agent.artifacts.onnx_file import CALIBRATION
from vitsearch_agent.base.onnx_writer import Value, field, model, node
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.runtimes.tools import trtexec
from vitsearch_agent.runtimes.tools.engine_cache import ENGINES_KEPT, EngineCache
from vitsearch_agent.runtimes.tools.trtexec import TrtexecRuntime, gpu_name, has_int8
from vitsearch_agent.runtimes.tools.trtexec_flags import (
    CALIBRATION_CACHE,
    build_flags,
    calibration_cache,
    read_version,
)
from vitsearch_agent.wire.protocol import SCREEN


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
        path, other = plain_onnx(), plain_onnx(width=9)
        prepare(equipped("15W"), path)
        prepare(equipped("7W"), path)
        prepare(equipped("15W"), other)
        prepare(equipped("15W"), path, "fp16")
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
            os.utime(cache.make({"n": number}, build) + ".json", (number, number))
        assert cache.find({"n": 0}) is not None
        cache.make({"n": "new"}, build)
        assert cache.find({"n": 1}) is None
        assert cache.find({"n": 0}) is not None


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
