"""vitsearch.space.check: values that no backbone of the file supports."""

from pathlib import Path

from support import SPACE_FILES
from vitsearch.errors import UnknownName
from vitsearch.space import check, load

SMALL = Path(SPACE_FILES, "small.yaml")
PATCHES = {"vit_fmnist_p4": 4, "vit_p8": 8, "huge": 4}


def supports(backbone, knob, value):
    if backbone not in PATCHES:
        raise UnknownName("backbone", backbone, PATCHES)
    if knob == "resolution" and value.height % PATCHES[backbone]:
        return f"not a multiple of {PATCHES[backbone]}"
    if knob == "weights" and value == "builtin" and backbone != "vit_fmnist_p4":
        return "none come with vitsearch"
    if knob == "distillation" and value == "token" and backbone == "vit_p8":
        return "has no distillation head"
    if knob == "quantization" and backbone == "huge":
        return "huge cannot be exported"
    return "has no windows" if knob == "window_size" else None


def lines(*overrides):
    loaded = load(SMALL, overrides)
    number = next(n for n, text in enumerate(SMALL.read_text().splitlines(), 1) if "resolution:" in text)
    return [line.replace(f"line {number}:", "line RES:") for line in check(loaded, supports)]


def test_small_is_supported():
    assert lines() == []


def test_a_value_that_one_backbone_supports_is_accepted():
    assert lines("space.backbone=[vit_fmnist_p4, vit_p8]", "space.resolution=[24, 28]") == []


def test_a_backbone_without_a_supported_resolution_is_reported():
    assert lines("space.backbone=[vit_fmnist_p4, vit_p8]", "space.resolution=[20, 28]") == [
        "override: space.backbone[1]: vit_p8 supports no resolution of the file: not a multiple of 8"
    ]


def test_a_backbone_without_a_supported_distillation_is_reported():
    overrides = "space.backbone=[vit_fmnist_p4, vit_p8]", "space.resolution=24", "space.distillation=token"
    assert lines(*overrides) == [
        "override: space.backbone[1]: vit_p8 supports no distillation of the file: has no distillation head"
    ]


def test_a_value_that_no_backbone_supports_is_reported():
    assert lines("space.backbone=[vit_fmnist_p4, vit_p8]", "space.resolution=[24, 25]", "baseline.resolution=24") == [
        "override: space.resolution[1]: no backbone of the file supports 25 "
        "(vit_fmnist_p4: not a multiple of 4; vit_p8: not a multiple of 8)"
    ]


def test_the_line_of_the_file_is_reported():
    assert lines("space.backbone=vit_p8") == [
        "line RES: space.resolution[1]: no backbone of the file supports 28 (vit_p8: not a multiple of 8)"
    ]


def test_an_unsupported_baseline_is_reported():
    backbones = "space.backbone=[vit_p8, vit_fmnist_p4]"
    assert lines(backbones) == ["line 1: baseline.resolution: vit_p8 does not support 28: not a multiple of 8"]
    assert lines(backbones, "baseline.weights=builtin", "baseline.resolution=24") == [
        "override: baseline.weights: vit_p8 does not support 'builtin': none come with vitsearch"
    ]


def test_unknown_backbones_are_reported_with_the_nearest():
    reported = lines("space.backbone=[vit_fmnist_p5]", "task.teacher={backbone: vit_p9}", "baseline.backbone=vit_p88")
    assert [line.partition(" Known")[0] for line in reported] == [
        "override: space.backbone[0]: no backbone is called 'vit_fmnist_p5'; did you mean 'vit_fmnist_p4'?",
        "override: baseline.backbone: no backbone is called 'vit_p88'; did you mean 'vit_p8'?",
        "override: task.teacher.backbone: no backbone is called 'vit_p9'; did you mean 'vit_p8'?",
    ]


def test_unsupported_weights_and_windows_are_reported():
    assert lines("space.backbone={name: vit_p8, weights: builtin}", "space.resolution=24", "space.window_size=7") == [
        "override: space.backbone: weights 'builtin': none come with vitsearch",
        "override: space.window_size: no backbone of the file supports 7 (vit_p8: has no windows)",
    ]


def test_a_teacher_without_features_is_reported_where_they_are_learned():
    def featureless(backbone, knob, value):
        return "vit_p8 has no features" if (backbone, knob, value) == ("vit_p8", "distillation", "feature") else None

    teacher = "task.teacher={backbone: vit_p8}"
    assert check(load(SMALL, [teacher, "space.distillation=[logits, feature]"]), featureless) == [
        "override: task.teacher.backbone: distillation 'feature' reads features of it: vit_p8 has no features"
    ]
    assert check(load(SMALL, [teacher, "space.distillation=logits"]), featureless) == []


def test_a_window_that_divides_no_map_is_reported():
    def windowed(backbone, knob, value):
        pixels = knob.partition("@")[2]
        return f"{value} does not divide {pixels}" if pixels and int(pixels) % value else None

    overrides = ("space.resolution=[24, 28]", "space.window_size=[4, 5, 7]")
    assert check(load(SMALL, overrides), windowed) == [
        "override: space.window_size[1]: no backbone of the file supports 5 (vit_fmnist_p4: 5 does not divide 28)"
    ]


def test_a_backbone_that_cannot_be_exported_is_reported():
    assert lines("space.backbone=[vit_fmnist_p4, huge]") == [
        "override: space.backbone[1]: huge supports no quantization of the file: huge cannot be exported"
    ]


def test_a_baseline_that_cannot_be_exported_is_reported():
    assert lines("baseline.backbone=huge") == ["override: baseline.backbone: huge cannot be exported"]


def test_a_provider_that_no_runtime_of_the_file_has_is_reported():
    assert lines("space.backend=[onnxruntime, openvino]", "space.provider=[cpu, nnapi]") == [
        "override: space.provider[1]: "
        "onnxruntime has no provider 'nnapi'; "
        "allowed: cpu, cuda, tensorrt, openvino, xnnpack, qnn, coreml, directml; "
        "openvino has no provider 'nnapi'; allowed: cpu, gpu, npu"
    ]


def test_a_runtime_without_a_provider_of_the_file_is_reported():
    assert lines("space.backend=[onnxruntime, litert]", "space.provider=cuda") == [
        "override: space.backend[1]: litert has none of the providers of the file (cuda); it has cpu, gpu, nnapi"
    ]


def test_a_runtime_without_a_precision_of_the_file_is_reported():
    assert lines("space.backend=[onnxruntime, coreml]", "space.quantization=[int8_ptq, int8_qat]") == [
        "override: space.backend[1]: coreml has none of the precisions of the file (int8_ptq, int8_qat); "
        "it has fp32, fp16, int8_weights, palette4"
    ]


def test_layers_that_no_precision_of_the_file_quantizes_are_reported():
    assert lines("space.quantization=[fp32, int8_ptq]", "space.quantized_ops=[linear, all]") == []
    assert lines("space.quantization=[fp32, int8_dynamic]", "space.quantized_ops=[linear, all]") == [
        "override: space.quantized_ops[1]: none of fp32, int8_dynamic quantizes 'all' in onnxruntime"
    ]
    assert lines("space.quantization=fp32") == []


def test_a_precision_that_no_runtime_makes_is_one_problem():
    overrides = "space.backend=executorch", "space.quantization=int8_qat", "space.quantized_ops=linear"
    (line,) = lines(*overrides)
    assert line.startswith("override: space.quantization: 'int8_qat': ExecuTorch's quantizer")


def test_what_the_npu_does_not_run_is_reported():
    npu = "space.provider=qnn"
    assert lines(npu, "space.quantization=[fp32, int8_ptq, w8a16]", "space.batch=1") == []
    assert lines(npu, "space.provider=[cpu, qnn]", "space.quantization=[int8_dynamic, w8a16]") == []
    assert lines("space.quantization=[fp32, w8a16]") == [
        "override: space.quantization[1]: 'w8a16' does not run on cpu: 16-bit activations are fused on NPUs alone; "
        "elsewhere each operator computes in fp32 between conversions; "
        "allowed there: fp32, fp16, int8_dynamic, int8_ptq, int8_qat, int8_weights, int8_mixed"
    ]
    refused = lines(
        npu,
        "space.quantization=[fp32, int8_ptq, int8_dynamic]",
        "space.quantized_ops=[linear]",
        "space.batch=[1, open]",
    )
    assert [line.split(": ")[1] for line in refused] == [
        "space.quantization[2]",
        "space.quantized_ops[0]",
        "space.batch[1]",
    ]


def test_an_open_batch_that_no_runtime_of_the_file_takes_is_reported():
    assert lines("space.backend=[onnxruntime, litert]", "space.batch=[1, open]") == []
    assert lines("space.backend=litert", "space.batch=[1, open]") == [
        "override: space.batch[1]: the files of litert take a fixed number of images, not 'open'; allowed: 1 to 1024"
    ]
