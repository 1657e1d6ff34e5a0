"""Core ML predicts on macOS only; here `support.mil_interpreter` computes the programs that were written."""

import shutil
import sys
import tempfile

import pytest
import torch
from timm.models import VisionTransformer
from torch import nn

from support.marks import long
from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.errors import StageError
from vitsearch.export import EXPORTERS, ExportTask, evaluate
from vitsearch.stages.parts.exporting import write
from vitsearch.storage.files import FileStore
from vitsearch_agent import artifacts
from vitsearch_agent.artifacts.coreml_file import write_package

coremltools = pytest.importorskip("coremltools", reason="coremltools is not installed")

PRECISIONS = ("fp32", "fp16", "int8_weights", "palette4")


def base(name):
    return backbones.find(name).build(ModelSpec(name, "builtin", ImageSize.square(28), 10, 1)).model.eval()


def small():
    torch.manual_seed(0)
    sizes = {"img_size": 28, "patch_size": 7, "in_chans": 1, "num_classes": 10}
    return VisionTransformer(**sizes, embed_dim=64, depth=2, num_heads=2).eval()


def task(images, precision="fp32", batch=1):
    return ExportTask("vit", Deployment("local", "coreml", "all", precision, batch=batch), images.numpy())


def export(model, folder, images, precision="fp32", batch=1):
    return EXPORTERS.get("coreml")().export(model, task(images, precision, batch), folder)


def difference(actual, expected):
    """The largest difference, over the largest logit."""
    actual, expected = torch.as_tensor(actual), torch.as_tensor(expected)
    return float((actual - expected).abs().max() / expected.abs().max())


@pytest.fixture(scope="module")
def images():
    return torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def exported(images, tmp_path_factory):
    """exported(precision) -> the files of a small ViT, written once."""
    model, files = small(), {}

    def files_of(precision):
        if precision not in files:
            files[precision] = export(model, tmp_path_factory.mktemp(precision), images, precision)
        return files[precision]

    return files_of


@pytest.mark.long
@pytest.mark.parametrize("name", ["efficientvit_fmnist", *long("vit_fmnist_p4", "mobilevit_fmnist")])
def test_an_fp32_program_computes_what_torch_computes(name, images, tmp_path):
    from support import mil_interpreter

    model = base(name)
    file = export(model, tmp_path, images)
    with torch.inference_mode():
        expected = model(images)
    assert difference(mil_interpreter.predict(file.path, images), expected) < 1e-5
    assert difference(evaluate.logits(file.judged, images.numpy(), 1), expected) < 1e-5


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.long
def test_the_judged_file_computes_what_the_program_computes(precision, exported, images):
    from support import mil_interpreter

    file = exported(precision)
    actual = mil_interpreter.predict(file.path, images)
    assert difference(evaluate.logits(file.judged, images.numpy(), 1), actual) < 3e-3


@pytest.mark.long
def test_compressed_weights_change_the_logits_more_the_fewer_bits_they_have(exported, images):
    plain = evaluate.logits(exported("fp32").judged, images.numpy(), 1)
    off = [
        difference(evaluate.logits(exported(precision).judged, images.numpy(), 1), plain)
        for precision in PRECISIONS[1:]
    ]
    assert 0 < off[0] < off[1] < off[2]


@pytest.mark.long
def test_sizes_are_those_of_the_precision(exported):
    sizes = [exported(precision).path.with_suffix(".bin").stat().st_size / 1e6 for precision in PRECISIONS]
    assert sizes[1] / sizes[0] == pytest.approx(1 / 2, rel=0.05)
    assert sizes[2] / sizes[0] == pytest.approx(1 / 4, rel=0.2)
    assert sizes[3] / sizes[0] == pytest.approx(1 / 8, rel=0.4)


@pytest.mark.long
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_agent_accepts_the_pair(precision, exported):
    assert artifacts.inspect("coreml", artifacts.model_files(str(exported(precision).path))).kind == "coreml"


@pytest.mark.long
def test_the_store_keeps_the_pair_together(exported, tmp_path):
    store = FileStore(tmp_path)
    stored = store.put_model(exported("fp16").path)
    path = store.model(stored.sha256)
    assert path.suffix == ".mlmodel"
    assert path.with_suffix(".bin").read_bytes() == exported("fp16").path.with_suffix(".bin").read_bytes()


@pytest.mark.long
def test_coremltools_loads_the_pair_as_a_package(exported, tmp_path):
    path = exported("palette4").path
    package = tmp_path / "model.mlpackage"
    write_package(str(path), str(path.with_suffix(".bin")), str(package))
    loaded = coremltools.models.MLModel(str(package), skip_model_load=True)
    (image,), (logits,) = loaded.get_spec().description.input, loaded.get_spec().description.output
    assert (image.name, list(image.type.multiArrayType.shape)) == ("images", [1, 1, 28, 28])
    assert (logits.name, list(logits.type.multiArrayType.shape)) == ("logits", [1, 10])
    function = loaded.get_spec().mlProgram.functions["main"]
    operators = [operator.type for operator in function.block_specializations[function.opset].operations]
    assert operators.count("constexpr_lut_to_dense") == operators.count("linear") + operators.count("conv") - 1


def test_the_batch_is_that_of_the_deployment(tmp_path):
    model, images = nn.Sequential(nn.Flatten(), nn.Linear(4, 2)).eval(), torch.ones(3, 1, 2, 2)
    path = export(model, tmp_path, images, batch=3).path
    spec = coremltools.models.utils.load_spec(str(path))
    assert list(spec.description.input[0].type.multiArrayType.shape) == [3, 1, 2, 2]


@pytest.mark.long
def test_the_same_model_gives_the_same_bytes(exported, images, tmp_path):
    again = export(small(), tmp_path, images, "palette4").path
    for suffix in (".mlmodel", ".bin"):
        assert again.with_suffix(suffix).read_bytes() == exported("palette4").path.with_suffix(suffix).read_bytes()


def test_a_model_without_large_constants_has_a_pair_too(tmp_path):
    path = export(nn.Sequential(nn.Flatten(), nn.ReLU()), tmp_path, torch.ones(1, 1, 2, 2)).path
    assert artifacts.inspect("coreml", artifacts.model_files(str(path))).kind == "coreml"


def test_the_model_is_not_changed(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Dropout()).train()
    export(model, tmp_path, torch.ones(1, 1, 2, 2))
    assert all(layer.training for layer in model)


class Aliased(nn.Module):
    def forward(self, images):
        return torch.ops.aten.alias(images.flatten(1)) * 2


def test_aliases_are_dropped(tmp_path):
    from support import mil_interpreter

    images = torch.arange(4.0).reshape(1, 1, 2, 2)
    path = export(Aliased(), tmp_path, images).path
    assert mil_interpreter.predict(path, images).tolist() == [[0, 2, 4, 6]]


class Branching(nn.Module):
    """Has a condition on its input: torch.export refuses it, and a trace keeps one side."""

    def forward(self, images):
        flat = images.flatten(1)
        return flat * 2 if float(flat.abs().sum()) > 0 else flat * 3


def test_what_torch_export_refuses_is_traced(tmp_path):
    from support import mil_interpreter

    images = torch.zeros(1, 1, 2, 2)
    path = export(Branching(), tmp_path, images).path
    assert mil_interpreter.predict(path, torch.ones(1, 1, 2, 2)).tolist() == [[3, 3, 3, 3]]


def test_a_traced_model_that_disagrees_is_refused(tmp_path):
    with pytest.raises(StageError, match=r"failed \(parity\): coreml and torch differ by"):
        write(Branching(), task(torch.ones(1, 1, 2, 2)), tmp_path)


class Unknown(nn.Module):
    def forward(self, images):
        return torch.det(images).reshape(len(images), 1)


def test_a_failure_has_the_last_words_of_both_ways(tmp_path):
    pattern = r"failed \(crash\): coremltools: torch.export: .*; torch.jit.trace: NotImplementedError .*det"
    with pytest.raises(StageError, match=pattern):
        export(Unknown(), tmp_path, torch.eye(2).reshape(1, 1, 2, 2))


def test_a_missing_coremltools_gives_the_line_that_installs_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    with pytest.raises(StageError, match=r"pip install 'vitsearch\[coreml\]'"):
        export(nn.Flatten(), tmp_path, torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize("precision", ["palette4", *long("fp32", "fp16", "int8_weights")])
def test_no_package_is_left_behind(precision, tmp_path, monkeypatch):
    """coremltools deletes its packages when Python ends, which a worker does not do for days."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    export(nn.Sequential(nn.Flatten(), nn.Linear(64, 64)), tmp_path, torch.randn(1, 1, 8, 8), precision)
    assert [path.name for path in scratch.iterdir()] == []
    shutil.rmtree(scratch)


def test_it_supports_what_core_ml_runs():
    exporter = EXPORTERS.get("coreml")()
    assert [exporter.supports("vit", precision) for precision in PRECISIONS] == [None] * 4
    assert "allowed: fp32, fp16, int8_weights, palette4" in exporter.supports("vit", "int8_ptq")
