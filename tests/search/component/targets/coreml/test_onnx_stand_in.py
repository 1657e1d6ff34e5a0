import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from torch import nn

from vitsearch.errors import StageError
from vitsearch.export.graph.onnx_file import convert
from vitsearch.targets.coreml import onnx_stand_in
from vitsearch.targets.coreml.reduced_weights import RoundedWeights


@pytest.fixture
def plain(tmp_path):
    """write(model, shape) -> its fp32 ONNX file."""

    def write(model, shape):
        convert(model, shape, tmp_path / "fp32.onnx", batch=1)
        return tmp_path / "fp32.onnx"

    return write


def rounded(weight, name="w"):
    before = weight.detach().numpy()
    return RoundedWeights(name, before.astype(np.float16), np.round(before * 4) / 4)


def constants(path):
    return [numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer]


def test_weights_of_linear_layers_are_found_transposed_and_of_convolutions_as_they_are(plain, tmp_path):
    layers = nn.Sequential(nn.Conv2d(1, 8, 3), nn.Linear(6, 5), nn.Linear(5, 6, bias=False)).eval()
    weights = [rounded(layers[index].weight) for index in (0, 1, 2)]
    onnx_stand_in.write(plain(layers, (1, 1, 8, 8)), tmp_path / "judged.onnx", weights, is_half=False)
    tensors = constants(tmp_path / "judged.onnx")
    for weight in weights:
        assert any(
            array.shape in (weight.after.shape, weight.after.T.shape)
            and (np.array_equal(array, weight.after) or (array.ndim == 2 and np.array_equal(array.T, weight.after)))
            for array in tensors
        )


def test_equal_weights_are_each_replaced_once(plain, tmp_path):
    layers = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 6)).eval()
    layers[2].weight.data = layers[0].weight.data + 1e-4
    weights = [rounded(layers[index].weight) for index in (0, 2)]
    onnx_stand_in.write(plain(layers, (1, 6)), tmp_path / "judged.onnx", weights, is_half=False)
    assert sum(np.array_equal(array * 4, np.round(array * 4)) for array in constants(tmp_path / "judged.onnx")) == 2


def test_weights_that_the_file_does_not_have_are_an_error(plain, tmp_path):
    other = RoundedWeights("foreign", np.ones((6, 6), np.float16), np.ones((6, 6)))
    with pytest.raises(StageError, match=r"no weights of the ONNX file have the values of Core ML's foreign \(6x6\)"):
        onnx_stand_in.write(plain(nn.Linear(6, 6), (1, 6)), tmp_path / "judged.onnx", [other], is_half=False)


def test_half_a_file_has_half_the_size(plain, tmp_path):
    path = plain(nn.Linear(64, 64), (1, 64))
    onnx_stand_in.write(path, tmp_path / "judged.onnx", (), is_half=True)
    assert (tmp_path / "judged.onnx").stat().st_size < 0.6 * path.stat().st_size
