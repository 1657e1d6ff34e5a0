"""TFLite files of the agent's own are read back by its own reader."""

import io
import struct

import pytest

from vitsearch_agent.artifacts import tflite_file
from vitsearch_agent.base.tflite_writer import CONVOLUTION, DEPTHWISE, PRODUCT, Operator, Tensor, model
from vitsearch_agent.selftest import tflite_models


def constant(name, *shape):
    size = 1
    for length in shape:
        size *= length
    return Tensor(name, shape, struct.pack("<f", 0.5) * size)


@pytest.fixture
def content():
    """A depthwise and a 1 x 1 convolution, and a product."""
    tensors = [Tensor("image", (1, 5, 5, 4)), constant("depth", 1, 3, 3, 4), constant("bias", 4)]
    tensors += [Tensor("spread", (1, 5, 5, 4)), constant("point", 4, 1, 1, 4), Tensor("mixed", (1, 5, 5, 4))]
    tensors += [constant("weight", 3, 100), Tensor("logits", (1, 3))]
    operators = [
        Operator(DEPTHWISE, (0, 1, 2), 3),
        Operator(CONVOLUTION, (3, 4, 2), 5),
        Operator(PRODUCT, (5, 6, -1), 7),
    ]
    return model(tensors, operators)


def test_the_file_is_well_formed_and_complete(content):
    assert tflite_file.inspect(io.BytesIO(content), len(content), {}).kind == "tflite"


def test_the_operators_and_their_tensors_are_read_back(content):
    read = tflite_file.operators(io.BytesIO(content), len(content))
    assert [operator.code for operator in read] == [DEPTHWISE, CONVOLUTION, PRODUCT]
    assert [None if tensor is None else tensor.shape for tensor in read[2].inputs] == [(1, 5, 5, 4), (3, 100), None]
    assert read[2].outputs == [tflite_file.Tensor((1, 3), 0)]


def test_the_input_is_read_back(content):
    (image,) = tflite_file.declared_inputs(io.BytesIO(content), len(content))
    assert (image.name, list(image.dims)) == ("image", [1, 5, 5, 4])


@pytest.mark.parametrize("write", [tflite_models.products, tflite_models.convolutions])
def test_the_reference_models_are_well_formed(write):
    content = write()
    assert len(tflite_file.operators(io.BytesIO(content), len(content))) in (24, 48)
    assert tflite_file.inspect(io.BytesIO(content), len(content), {}).kind == "tflite"
