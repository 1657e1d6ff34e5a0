import numpy as np
import pytest
import torch
from torch import nn

from vitsearch.targets.coreml import reduced_weights as coreml_weights

coremltools = pytest.importorskip("coremltools", reason="coremltools is not installed")


class Shared(nn.Module):
    """A layer norm and a linear layer with equal biases, which coremltools stores once; and a table that is added."""

    def __init__(self):
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 64, 64))
        self.norm, self.linear, self.small = nn.LayerNorm(64), nn.Linear(64, 64), nn.Linear(64, 4)
        nn.init.zeros_(self.linear.bias)

    def forward(self, images):
        return self.small(self.linear(self.norm(images.flatten(1, 2) + self.table)).mean(1))


@pytest.fixture(scope="module")
def program():
    from vitsearch.targets.coreml import exporter as coreml_file

    torch.manual_seed(0)
    with coreml_file.quiet():
        return coreml_file.program_of(Shared(), (1, 1, 64, 64), is_half=True)


@pytest.mark.parametrize("precision", ["int8_weights", "palette4"])
@pytest.mark.long
def test_the_weights_of_layers_are_rounded_and_nothing_else(program, precision):
    from vitsearch.targets.coreml import exporter as coreml_file

    with coreml_file.quiet():
        (weights,) = coreml_weights.compress(program, precision).rounded
    assert weights.name.startswith("p_linear_weight")
    assert weights.before.shape == weights.after.shape == (64, 64)


@pytest.mark.long
def test_int8_weights_are_symmetric_with_a_scale_for_each_output(program):
    from vitsearch.targets.coreml import exporter as coreml_file

    with coreml_file.quiet():
        (weights,) = coreml_weights.compress(program, "int8_weights").rounded
    before, after = weights.before.astype(np.float64), weights.after.astype(np.float64)
    scales = np.abs(before).max(1, keepdims=True) / 127
    assert (np.abs(after / scales - np.round(after / scales)) < 0.1).all()
    assert (np.abs(after - before) <= scales * 0.6).all()


@pytest.mark.long
def test_a_palette_has_sixteen_values_for_a_layer(program):
    from vitsearch.targets.coreml import exporter as coreml_file

    with coreml_file.quiet():
        (weights,) = coreml_weights.compress(program, "palette4").rounded
    assert len(np.unique(weights.after)) == 16
