"""Files for devices whose onnxruntime reads old opsets, such as 1.10 of the Jetson Nano (15) and 1.6 (13)."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import precisions_on
from vitsearch.export import ExportTask
from vitsearch.models.onnx_format import OLDEST_OPSET
from vitsearch.stages.parts import exporting

IR_VERSIONS = {OLDEST_OPSET: 7, 15: 8}
"""Opset -> the newest IR version that the first onnxruntime which reads it reads."""


def written(name: str, precision: str, opset: int, folder):
    model = backbones.find(name).build(ModelSpec(name, "builtin", ImageSize.square(28), 10, 1)).model.eval()
    images = np.random.default_rng(0).standard_normal((2, 1, 28, 28)).astype(np.float32)
    deployment = Deployment("nano", "onnxruntime", "cpu", precision, 1)
    family = backbones.find(name).family
    file = exporting.write(model, ExportTask(family, deployment, images, opset, version="1.10.0"), folder)
    return onnx.load(file.file.path), file.parity


@pytest.mark.parametrize("opset", IR_VERSIONS)
@pytest.mark.parametrize("name", ["vit_fmnist_p4", "efficientvit_fmnist", "mobilevit_fmnist"])
@pytest.mark.long
def test_the_same_model_is_written_in_an_older_opset(name, opset, tmp_path):
    model, parity = written(name, "fp32", opset, tmp_path)
    assert parity < 1e-4
    assert [(imported.domain, imported.version) for imported in model.opset_import] == [("", opset)]
    assert model.ir_version <= IR_VERSIONS[opset]
    assert not {node.op_type for node in model.graph.node} & {"LayerNormalization", "Gelu"}


@pytest.mark.parametrize("precision", precisions_on("onnxruntime", "cpu"))
def test_no_precision_raises_the_opset_or_the_ir_version(precision, tmp_path):
    model, _ = written("efficientvit_fmnist", precision, OLDEST_OPSET, tmp_path)
    assert {imported.version for imported in model.opset_import if imported.domain == ""} == {OLDEST_OPSET}
    assert model.ir_version <= IR_VERSIONS[OLDEST_OPSET]
