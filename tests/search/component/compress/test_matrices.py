import numpy as np
import torch
from torch import nn

from vitsearch.compress import matrices


def test_a_1x1_convolution_is_a_linear_layer_on_pixels():
    convolution, image = nn.Conv2d(5, 3, 1), torch.randn(2, 5, 4, 4)
    rows = matrices.rows(convolution, image)
    assert rows.shape == (2, 16, 5)
    by_hand = rows.double().numpy() @ matrices.weight(convolution).T + convolution.bias.detach().numpy()
    expected = convolution(image).flatten(2).transpose(1, 2).detach().numpy()
    np.testing.assert_allclose(by_hand, expected, atol=1e-5)


def test_rows_of_linear_layers():
    layer = nn.Linear(5, 3)
    assert matrices.rows(layer, torch.zeros(2, 7, 5)).shape == (2, 7, 5)
    assert matrices.rows(layer, torch.zeros(2, 4, 4, 5)).shape == (2, 16, 5)
    assert matrices.rows(layer, torch.zeros(2, 5)).shape == (2, 1, 5)


def test_weights_round_trip():
    for layer in (nn.Linear(5, 3), nn.Conv2d(5, 3, 1)):
        values = np.arange(15.0).reshape(3, 5)
        matrices.set_weight(layer, values)
        assert (matrices.weight(layer) == values).all()


def test_a_constant_goes_into_the_bias_or_the_norm_behind_the_layer():
    constant, image = np.array([1.0, -2.0, 3.0]), torch.randn(2, 5, 4, 4)
    with_bias, without = nn.Conv2d(5, 3, 1), nn.Conv2d(5, 3, 1, bias=False)
    norm = nn.BatchNorm2d(3).eval()
    shift = torch.tensor(constant, dtype=torch.float32)[:, None, None]
    expected = (with_bias(image) + shift, norm(without(image) + shift))
    matrices.add_constant(with_bias, None, constant)
    matrices.add_constant(without, norm, constant)
    assert torch.allclose(with_bias(image), expected[0], atol=1e-6)
    assert torch.allclose(norm(without(image)), expected[1], atol=1e-6)
    assert [matrices.has_constant(with_bias, None), matrices.has_constant(without, norm)] == [True, True]
    assert not matrices.has_constant(without, None)
