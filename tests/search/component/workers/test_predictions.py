"""The outputs of a stored file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from vitsearch.backbones.builtin import FASHION_MNIST
from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import ModelView
from vitsearch.data import DataSpec, load
from vitsearch.errors import ResourceError
from vitsearch.workers.predictions import RunnableFile, outputs_of

VIEW = ModelView(ImageSize.square(28), FASHION_MNIST)


def test_a_file_that_this_machine_cannot_run_is_refused(plan):
    deployment = replace(plan.deployment, runtime="tensorrt", provider="gpu")
    file = RunnableFile(Path("model.onnx"), replace(plan, deployments=(deployment,)), VIEW, {}, 1)
    with pytest.raises(ResourceError) as caught:
        outputs_of(file, None)
    assert str(caught.value) == (
        "a file of tensorrt cannot be run on this machine; outputs for single images are computed for onnxruntime, "
        "openvino, litert, executorch, ncnn"
    )


def test_the_file_is_run_on_the_validation_images(plan, tmp_path):
    """A file whose logits are the means of ten rows of an image: which is the largest is known without it."""
    rows = np.zeros((784, 10), np.float32)
    for column in range(10):
        rows[28 * column : 28 * (column + 1), column] = 1.0
    graph = helper.make_graph(
        [helper.make_node("Flatten", ["images"], ["flat"]), helper.make_node("MatMul", ["flat", "rows"], ["logits"])],
        "rows",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [4, 1, 28, 28])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [4, 10])],
        [numpy_helper.from_array(rows, "rows")],
    )
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]).SerializeToString())
    images = load(DataSpec.from_json({"source": "builtin:fashion-mnist-14k"}))
    outputs = outputs_of(RunnableFile(path, plan, VIEW, {}, 4), images)
    pixels = images.validation.images[..., 0].astype(np.float64)
    assert outputs.shape == (len(images.validation), 10)
    assert (outputs.argmax(1) == pixels[:, :10].sum(2).argmax(1)).mean() > 0.999  # sums of equal rows may tie
