"""Files of models that give maps: the classifier stays in float, whatever else a precision leaves so."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import onnx
import pytest

from vitsearch import stages
from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.compress.quantization import fake_quant
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.resolve import BlockStructure, Scores, resolve
from vitsearch.data import DataSpec
from vitsearch.stages.calibration import Calibration
from vitsearch.stages.parts.exporting import export, float_layers
from vitsearch.stages.parts.images import drawn_batches
from vitsearch.stages.parts.models import refitted
from vitsearch.storage.files import FileStore
from vitsearch.tasks import TaskSource

RECIPE = Recipe((0, 1), 128, 32, 1e-4, 0.05, 2, 0.5, 2.0, 0)
CALIBRATION = Calibration(images=16, seed=0)
SIZE = ImageSize.square(28)
SOURCE = stages.Source("vit_fmnist_p4", "builtin", SIZE, FASHION_MNIST)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("maps")
    stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
    data = DataSpec("builtin:fashion-mosaic").to_json()
    return stages.Workspace(data, *stores, folder / "cache", task=TaskSource("segmentation"))


@pytest.fixture(scope="module")
def spec_of(workspace):
    """A function that makes the spec of the whole model with a deployment."""

    @cache
    def structure():
        return stages.BlockStructureJob(workspace, SOURCE, CALIBRATION).work()

    def make(deployment: Deployment) -> stages.CompressionSpec:
        plan = Plan(SOURCE.backbone, "builtin", SIZE, None, Compression(), "none", RECIPE, (deployment,))
        shape = BlockStructure.from_json(structure().block_structure), Scores.from_json(structure().scores)
        return stages.CompressionSpec(SOURCE, resolve(plan, *shape), structure().statistics_sha256)

    return make


def in_float(path) -> list[str]:
    """The products by weights that no quantized operator computes."""
    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    return [node.name for node in graph.node if node.op_type in ("MatMul", "Gemm") and weights & {*node.input}]


@pytest.mark.parametrize("precision", ["int8_qat", "int8_mixed"])
def test_the_classifier_of_a_map_stays_in_float(workspace, spec_of, tmp_path, precision):
    deployment = Deployment("local", "onnxruntime", "cpu", precision, quantized_ops="linear")
    spec = spec_of(deployment)
    model = refitted(spec, workspace)
    (head,) = float_layers(model)
    if precision == "int8_qat":
        fake_quant.prepare(model, drawn_batches(workspace, CALIBRATION, SOURCE.view), float_layers(model))
    else:  # it is among the most sensitive ones too
        spec = replace(spec, resolved=replace(spec.resolved, fp32_layers=(head,)))
    written = export(model, stages.ScreenJob(workspace, spec, deployment, 17, CALIBRATION), tmp_path)
    assert len(in_float(written.file.path)) == 1
