"""Networks that are ONNX files: read, given our form, built, exported, and refused in one line each."""

import copy
import os
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper
from safetensors.torch import save_file
from torch import nn

from vitsearch.backbones.onnx_family import OnnxFamily, facts_of, read
from vitsearch.compress import macs
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import OnnxNetwork
from vitsearch.core.onnx_exporters import of_file
from vitsearch.core.plan import Deployment
from vitsearch.errors import NetworkError, PlanError, StageError, WeightsError
from vitsearch.export.base import ExportTask
from vitsearch.models.backbone import ModelSpec
from vitsearch.models.onnx_format import INPUT, OUTPUT
from vitsearch.models.onnx_model import fixed_batch
from vitsearch.stages.parts.exporting import write
from vitsearch.training import inference

SIZE, CLASSES = 16, 4
IMAGES = torch.randn(5, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    """Convolutions of 32 channels, one behind the other, and a linear layer."""

    def __init__(self):
        super().__init__()
        self.stem, self.middle = nn.Conv2d(3, 32, 3, 2), nn.Conv2d(32, 32, 3)
        self.out = nn.Linear(32, CLASSES)

    def forward(self, x):
        return self.out(torch.relu(self.middle(torch.relu(self.stem(x)))).mean((2, 3)))


class Mixing(Net):
    """What an image gets depends on the others in the run."""

    def forward(self, x):
        logits = super().forward(x)
        return logits - logits.mean(0, keepdim=True) / 2


class Fixed(Net):
    """A token of one image stands beside what the images give."""

    def forward(self, x):
        logits = super().forward(x)
        return torch.cat((logits[:, None], torch.ones(1, 1, CLASSES)), 1).mean(1)


class OfFour(Net):
    """Four images, with something of its own for each."""

    def forward(self, x):
        return super().forward(x) + torch.arange(4.0)[:, None]


class Last(nn.Module):
    def __init__(self, last):
        super().__init__()
        self.net, self.last = net(), last

    def forward(self, x):
        return self.last(self.net(x))


def net(kind=Net):
    torch.manual_seed(0)
    return kind().eval()


@pytest.fixture
def exported(tmp_path):
    """Writes a module as another tool would, and gives its network."""

    def export(model, images=1, **options):
        path = tmp_path / "theirs.onnx"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (IMAGES[:images],), str(path), dynamo=False, **options)
        return OnnxNetwork("theirs", str(path), "nchw", ImageSize.square(SIZE))

    return export


def edited(network, edit):
    """The file after `edit` has changed its graph."""
    model = onnx.load(network.path)
    edit(model)
    onnx.save(model, network.path)
    return network


def spec(network, **changes):
    return replace(ModelSpec(network.name, f"file:{network.path}", ImageSize.square(SIZE), CLASSES, 3), **changes)


def built(network, **changes):
    return OnnxFamily(network).build(spec(network, **changes)).model


def refusal(network):
    with pytest.raises(NetworkError) as error:
        read(network)
    assert str(error.value).startswith("theirs: ")
    return str(error.value)


def assert_equal(logits, expected):
    assert logits.shape == expected.shape
    assert float((logits - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


@torch.no_grad()
def test_a_file_gives_the_logits_of_its_network_at_any_batch(exported):
    model = built(exported(net(), opset_version=13, input_names=["x"], output_names=["y"]))
    proto = model.proto()
    assert (proto.graph.input[0].name, proto.graph.output[0].name, model.opset) == (INPUT, OUTPUT, 17)
    assert fixed_batch(proto) == 0
    assert_equal(model(IMAGES), net()(IMAGES))
    assert_equal(copy.deepcopy(model)(IMAGES[:1]), net()(IMAGES[:1]))


@torch.no_grad()
def test_its_state_is_the_file(exported, tmp_path):
    network = exported(net())
    save_file(built(network).state_dict(), tmp_path / "base.safetensors")
    Path(network.path).unlink()
    again = built(network, weights=f"file:{tmp_path / 'base.safetensors'}")
    assert_equal(again(IMAGES), net()(IMAGES))


@torch.no_grad()
def test_channels_may_be_last(exported):
    network = exported(Last(nn.Identity()))

    def to_nhwc(model):
        (image,) = model.graph.input
        own = image.name
        model.graph.node.insert(0, helper.make_node("Transpose", ["nhwc"], [own], perm=[0, 3, 1, 2]))
        del model.graph.input[:]
        model.graph.input.append(helper.make_tensor_value_info("nhwc", TensorProto.FLOAT, [1, SIZE, SIZE, 3]))

    edited(network, to_nhwc)
    assert refusal(network).endswith("its images look like (batch, height, width, channels): layout: nhwc")
    assert_equal(built(replace(network, layout="nhwc"))(IMAGES), net()(IMAGES))


@torch.no_grad()
@pytest.mark.parametrize("opset", [13, 17])
def test_a_softmax_at_the_end_is_left_out(exported, opset):
    assert_equal(built(exported(Last(nn.Softmax(1)), opset_version=opset))(IMAGES), net()(IMAGES))


@torch.no_grad()
def test_names_that_a_file_uses_for_other_tensors_are_free_again(exported):
    network = exported(net(), input_names=[OUTPUT], output_names=[INPUT])
    assert_equal(built(network)(IMAGES), net()(IMAGES))


@torch.no_grad()
@pytest.mark.parametrize("kind", [Mixing, Fixed])
def test_a_batch_that_changes_the_logits_stays_one(exported, kind):
    network = exported(net(kind), dynamic_axes={"x": {0: "n"}} if kind is Mixing else None, input_names=["x"])
    family, model = OnnxFamily(network), built(network)
    assert fixed_batch(model.proto()) == 1
    assert_equal(model(IMAGES), torch.cat([net(kind)(image[None]) for image in IMAGES]))
    assert family.supports("theirs", "batch", "1") is None
    assert family.supports("theirs", "batch", "open") == "the graph of theirs fixes the number of images in a run to 1"


@torch.no_grad()
def test_a_file_of_several_images_in_a_run_is_opened_or_refused(exported):
    assert_equal(built(exported(net(), images=4))(IMAGES), net()(IMAGES))
    assert "takes 4 images in a run, which its graph fixes" in refusal(exported(net(OfFour), images=4))


@torch.no_grad()
def test_logits_are_chosen_by_the_names_of_classes(exported, tmp_path):
    labels = tmp_path / "labels.txt"
    labels.write_text("cat\ndog\nbird\nhorse\n")
    network = replace(exported(net()), classes=str(labels))
    chosen = built(network, classes=2, class_names=("bird", "cat"))
    assert_equal(chosen(IMAGES), net()(IMAGES)[:, [2, 0]])
    with pytest.raises(WeightsError, match="does not list fish, which the data has; it has cat, dog, bird and 1 more"):
        built(network, classes=2, class_names=("bird", "fish"))
    labels.write_text("cat\ndog\nbird\ncat\n")
    with pytest.raises(WeightsError, match="lists cat more than once"):
        built(network, classes=2, class_names=("bird", "cat"))
    labels.write_text("cat\n")
    with pytest.raises(NetworkError, match=r"labels\.txt lists 1 classes, and .* gives 4 logits"):
        facts_of(network, {})


def test_another_number_of_classes_or_channels_is_refused(exported):
    network = exported(net())
    with pytest.raises(WeightsError, match="gives 4 logits, and the data has 10 classes"):
        built(network, classes=10)
    with pytest.raises(PlanError, match="takes images with 3 channels, and these have 1"):
        built(network, channels=1)
    with pytest.raises(PlanError, match="it takes images of 16 pixels"):
        built(network, resolution=32)


def test_another_file_than_that_of_the_study_is_refused(exported):
    network = exported(net())
    known = replace(network, architecture=facts_of(network, {}).architecture)
    built(known)
    exported(Last(nn.Identity()))
    with pytest.raises(NetworkError, match="is another file here"):
        built(known)


def test_the_cost_of_a_file_of_colour_images_is_counted_without_its_weights(exported):
    """As `vitsearch check` does."""
    assert macs.count(built(exported(net()), weights="none"), IMAGES[:1]) == macs.count(net(), IMAGES[:1])


def test_macs_and_parameters_are_counted_on_the_graph(exported):
    assert macs.count(built(exported(net())), IMAGES[:1]) == macs.count(net(), IMAGES[:1])


@torch.no_grad()
def test_a_timm_model_and_its_file_have_the_same_figures(exported):
    model = timm.create_model("vit_tiny_patch16_224", img_size=SIZE, depth=2, num_classes=CLASSES).eval()
    network = exported(model)
    theirs = built(network)
    assert macs.count(theirs, IMAGES[:1]) == macs.count(model, IMAGES[:1])
    assert_equal(theirs(IMAGES), model(IMAGES))


def test_nothing_is_cut_or_trained(exported):
    family = OnnxFamily(exported(net()))
    values = {
        "ffn_pruning_ratio": 0.5,
        "token_pruning_method": "topk",
        "weight_sparsity": "50%",
        "distillation": "feature",
        "quantization": "int8_qat",
        "window_size": 7,
        "resolution": 32,
    }
    reasons = {knob: family.supports("theirs", knob, value) for knob, value in values.items()}
    assert all(reason.startswith("theirs is an ONNX file, which is run as it is") for reason in reasons.values())
    assert "the sensitivity of layers" in family.supports("theirs", "quantization", "int8_mixed")
    assert "files for LiteRT are converted from a model in torch" in family.supports("theirs", "backend", "litert")
    assert "Core ML" in family.supports("theirs", "backend", "coreml")
    for knob, value in (("distillation", "logits"), ("backend", "openvino"), ("quantization", "int8_ptq")):
        assert family.supports("theirs", knob, value) is None
    assert family.units(built(family.network)) == ()


# ---- what is not searched


def test_what_is_no_onnx_file_is_refused(exported, tmp_path):
    network = exported(net())
    assert "there is no file" in refusal(replace(network, path=str(tmp_path / "none.onnx")))
    Path(network.path).write_bytes(b"PK\x03\x04 no graph at all")
    assert "is not an ONNX file" in refusal(network)
    Path(network.path).write_bytes(b"")
    assert "is not an ONNX file: it has no graph" in refusal(network)


def test_a_file_that_is_too_large_is_refused(exported):
    network = exported(net())
    os.truncate(network.path, 2**31)  # without taking room on the disk
    assert "takes 2.1 GB, and an ONNX file at most 2.1 GB" in refusal(network)


def test_weights_in_other_files_are_refused(exported, tmp_path):
    network = exported(net())
    onnx.save(
        onnx.load(network.path), network.path, save_as_external_data=True, location="theirs.data", size_threshold=0
    )
    assert "keeps its weights in other files (theirs.data): write it as one file" in refusal(network)


def second_output(model):
    middle = next(node.output[0] for node in model.graph.node if node.op_type == "Relu")
    model.graph.output.append(helper.make_tensor_value_info(middle, TensorProto.FLOAT, None))


def second_input(model):
    model.graph.input.append(helper.make_tensor_value_info("mask", TensorProto.FLOAT, [1]))


def own_operator(model):
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type, node.domain = "Gelu2", "my.company"
    model.opset_import.append(helper.make_opsetid("my.company", 1))


def bytes_as_images(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8


def many_images(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2**62


def constant_of_a_function(model):
    """Its numbers are in a file elsewhere."""
    secret = TensorProto(name="secret", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    secret.external_data.add(key="location", value="/etc/hostname")
    standard, node = model.opset_import[0], helper.make_node("Constant", [], ["secret"], value=secret)
    model.functions.append(helper.make_function("ours", "Secret", [], ["secret"], [node], [standard]))
    model.graph.node.insert(0, helper.make_node("Secret", [], ["secret"], domain="ours"))
    model.opset_import.append(helper.make_opsetid("ours", 1))


def function_of_itself(model):
    domains = [model.opset_import[0], helper.make_opsetid("ours", 1)]
    node = helper.make_node("Endless", ["x"], ["y"], domain="ours")
    model.functions.append(helper.make_function("ours", "Endless", ["x"], ["y"], [node], domains))
    model.graph.node.append(helper.make_node("Endless", [model.graph.output[0].name], ["unused"], domain="ours"))
    model.opset_import.append(domains[1])


def flat_images(model):
    del model.graph.input[0].type.tensor_type.shape.dim[3]


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (second_output, "has 2 outputs ("),
        (second_input, "has 2 inputs ("),
        (own_operator, "uses operators that the runtimes do not have: my.company.Gelu2"),
        (bytes_as_images, "takes images as uint8, and the agent measures with float (float32)"),
        (many_images, "4611686018427387904 images in a run; allowed: 1 to 1024, or any number"),
        (constant_of_a_function, "keeps its weights in other files (/etc/hostname)"),
        (function_of_itself, "has functions that cannot be inlined: "),
        (flat_images, "takes (1, 3, 16), and images are (batch, channels, height, width)"),
    ],
)
def test_a_graph_of_another_form_is_refused(exported, edit, reason):
    assert reason in refusal(edited(exported(net()), edit))


def test_another_size_or_output_is_refused(exported):
    network = exported(net())
    assert "takes (1, 3, 16, 16), not images of 24 x 24 pixels" in refusal(
        replace(network, resolution=ImageSize.square(24))
    )
    features = exported(net().stem)
    assert "gives (1, 32, 7, 7) for images (1, 3, 16, 16), not one logit for each class" in refusal(features)


def test_a_file_that_onnxruntime_does_not_run_is_refused(exported):
    def break_weights(model):
        weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
        weight.CopyFrom(onnx.numpy_helper.from_array(np.zeros((CLASSES, 7), np.float32), weight.name))

    assert "does not run in onnxruntime" in refusal(edited(exported(net()), break_weights))


# ---- its files


def test_an_opset_that_no_installed_library_knows_is_refused(exported):
    def renew(model):
        model.opset_import[0].version = 999

    assert "has opset 999, and the installed onnx reads up to" in refusal(edited(exported(net()), renew))


def deployment(runtime, precision, batch=1, ops=None):
    return Deployment("local", runtime, "gpu" if runtime == "tensorrt" else "cpu", precision, batch, ops)


@pytest.mark.parametrize(
    ("runtime", "precision"),
    [
        ("onnxruntime", "fp32"),
        ("onnxruntime", "fp16"),
        ("onnxruntime", "int8_dynamic"),
        ("onnxruntime", "int8_ptq"),
        ("onnxruntime", "int8_weights"),
        ("openvino", "fp32"),
        ("openvino", "bf16"),
        ("openvino", "fp16"),
        pytest.param("openvino", "int8_ptq", marks=pytest.mark.long),
        ("tensorrt", "int8_ptq"),
    ],
)
def test_each_precision_is_made_from_the_file(exported, tmp_path, runtime, precision):
    model = built(exported(net()))
    ops = "all" if precision == "int8_ptq" else None
    task = ExportTask("theirs", deployment(runtime, precision, 1, ops), IMAGES.numpy(), exporter=of_file(model.opset))
    written = write(model, task, tmp_path)
    assert written.parity < (1e-5 if precision == "fp32" else 0.2)
    assert written.exporter == "file"


def quantized(network):
    """What onnxruntime's own tool makes of a file."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self, name):
            self.batches = iter([{name: IMAGES[row : row + 1].numpy()} for row in range(len(IMAGES))])

        def get_next(self):
            return next(self.batches, None)

    name = onnx.load(network.path).graph.input[0].name
    quantize_static(network.path, network.path, Reader(name))
    return network


@torch.no_grad()
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_quantized_file_runs_as_it_is(exported, tmp_path, runtime):
    network = quantized(exported(net()))
    model, family = built(network), OnnxFamily(network)
    again = "theirs is quantized already: its file runs as it is, under the precision fp32"
    assert family.supports("theirs", "quantization", "int8_ptq") == again
    task = ExportTask("theirs", deployment(runtime, "fp32"), IMAGES.numpy(), exporter=of_file(model.opset))
    assert write(model, task, tmp_path).parity < 0.05


def test_a_device_that_reads_no_newer_opset_gets_an_older_file(exported, tmp_path):
    model = built(exported(net(), opset_version=18))
    task = ExportTask("theirs", deployment("onnxruntime", "fp32"), IMAGES.numpy(), 17, exporter=of_file(18))
    try:
        write(model, task, tmp_path)
    except StageError as error:
        assert "it cannot be converted" in str(error)  # noqa: PT017
    else:
        assert onnx.load(tmp_path / "model.onnx").opset_import[0].version == 17


def test_pixels_are_read_without_parameters_to_ask(exported):
    from vitsearch.core.preprocessing import HALF

    pixels = np.zeros((3, SIZE, SIZE, 3), np.uint8)
    assert inference.predict_logits(built(exported(net())), pixels, ImageSize.square(SIZE), HALF).shape == (3, CLASSES)
