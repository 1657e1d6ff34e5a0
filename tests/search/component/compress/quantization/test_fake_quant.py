"""A model that rounds in torch, and the file that int8_static makes of it."""

from __future__ import annotations

import copy
from collections import Counter
from importlib import resources

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from vitsearch.compress.quantization import fake_quant
from vitsearch.compress.quantization.fake_quant import QuantizedLinear
from vitsearch.compress.quantization.int8_static import quantize_static
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.tensors import to_tensor
from vitsearch.errors import StageError
from vitsearch.export.evaluate import logits as run
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.testing.outliers import add_outliers
from vitsearch.training.fine_tune import TrainingSpec, fine_tune, training_pool
from vitsearch.training.inference import accuracy, predict_logits

LAYERS = 4 * 6 + 1


@pytest.fixture(scope="module")
def images(base):
    return base.calibration[0][:32]


@pytest.fixture(scope="module")
def rounded(base, images):
    model = base.model()
    fake_quant.prepare(model, images.split(16))
    return model


@pytest.fixture(scope="module")
def trained(rounded):
    """Two steps, with the learning rate of a fine-tune."""
    model, draw = copy.deepcopy(rounded), np.random.default_rng(0)
    pixels, labels = draw.integers(0, 256, (32, 28, 28, 1), np.uint8), draw.integers(0, 10, 32)
    recipe = Recipe((0, 1), 32, 16, 1e-4, 0.05, 0, 0.0, 1.0, 0)
    fine_tune(model, TrainingSpec(pixels, labels, ImageSize.square(28), Preprocessing((0.286,), (0.353,)), recipe, 1))
    return model


def exported(model, images, folder):
    """The fp32 file of the weights and the int8 one of the learned ranges."""
    plain, small = folder / "fp32.onnx", folder / "int8.onnx"
    with fake_quant.unrounded(model):
        write_onnx(model, (1, 1, 28, 28), plain)
    quantize_static(plain, small, images.numpy(), fake_quant.learned(model))
    return plain, small


@pytest.fixture(scope="module")
def files(trained, images, tmp_path_factory):
    return exported(trained, images, tmp_path_factory.mktemp("files"))


def layer(low=-1.0, high=3.0, seed=0):
    torch.manual_seed(seed)
    return QuantizedLinear(nn.Linear(6, 4), (low, high))


# ---- one layer


def test_inputs_and_weights_are_on_their_grids():
    quantized = layer()
    inputs = torch.randn(50, 6)
    scale = 4.0 / 255
    zero = round(1.0 / scale)
    steps = (torch.round(inputs / scale) + zero).clamp(0, 255) - zero
    w_scale = quantized.weight.abs().amax(1, keepdim=True) / 127
    expected = nn.functional.linear(steps * scale, torch.round(quantized.weight / w_scale) * w_scale, quantized.bias)
    torch.testing.assert_close(quantized(inputs), expected)


def straight_through(quantized, inputs):
    """The forward pass of the layer in plain operations that torch differentiates."""

    def rounded(values):
        return values + (values.round() - values).detach()

    low, high = quantized.ends()
    scale = (high - low) / 255
    zero = rounded(-low / scale)
    steps = (rounded(inputs / scale) + zero).clamp(0, 255) - zero
    w_scale = (quantized.weight.abs().amax(1, keepdim=True) / 127).detach()
    return nn.functional.linear(steps * scale, rounded(quantized.weight / w_scale) * w_scale, quantized.bias)


def test_gradients_pass_rounding_unchanged():
    quantized, inputs = layer(), (torch.randn(50, 6) * 2).requires_grad_()
    wanted = [inputs, quantized.weight, quantized.bias, quantized.stretch]
    slope = torch.randn(50, 4)
    gradients = torch.autograd.grad(quantized(inputs), wanted, slope)
    expected = torch.autograd.grad(straight_through(quantized, inputs), wanted, slope)
    for ours, theirs in zip(gradients[:3], expected[:3], strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    damping = (inputs.numel() * 255) ** -0.5
    torch.testing.assert_close(gradients[3], expected[3] * damping, atol=1e-4, rtol=1e-3)


def test_training_shrinks_a_range_stretched_by_an_outlier():
    torch.manual_seed(0)
    plain, inputs = nn.Linear(64, 32), torch.randn(256, 64)
    quantized = QuantizedLinear(copy.deepcopy(plain), (-300.0, 300.0))
    optimizer = torch.optim.AdamW([quantized.stretch], lr=1e-3)
    errors = []
    for _ in range(60):
        error = (quantized(inputs) - plain(inputs).detach()).square().mean()
        optimizer.zero_grad()
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert float(quantized.ends().detach()[1]) < 15
    assert errors[-1] < 0.01 * errors[0]


@pytest.mark.parametrize("ends", [(0.0, 0.0), (2.0, 3.0), (-3.0, -2.0)])
def test_zero_is_always_in_the_range_and_an_empty_range_gives_finite_outputs(ends):
    quantized = layer(*ends)
    assert torch.isfinite(quantized(torch.randn(3, 6))).all()
    assert quantized.ends()[0] <= 0 <= quantized.ends()[1]
    torch.testing.assert_close(quantized(torch.zeros(1, 6))[0], quantized.bias)


def test_integers_are_multiplied_exactly_under_autocast():
    quantized, inputs = layer(), torch.randn(50, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = quantized(inputs)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.float(), quantized(inputs), atol=0.03, rtol=0.02)


# ---- a model


@pytest.mark.long
def test_every_linear_layer_rounds_and_shares_its_parameters(base, rounded):
    assert sum(isinstance(module, QuantizedLinear) for module in rounded.modules()) == LAYERS
    assert sum(type(module) is nn.Linear for module in rounded.modules()) == 0
    assert set(dict(base.model().named_parameters())) <= set(dict(rounded.named_parameters()))


@pytest.mark.long
def test_an_untrained_model_equals_post_training_quantization(base, rounded, images, tmp_path, logits):
    write_onnx(base.model(), (1, 1, 28, 28), tmp_path / "fp32.onnx")
    quantize_static(tmp_path / "fp32.onnx", tmp_path / "ptq.onnx", images.numpy())
    inputs = base.held_out[0][:64]
    expected, actual = run(tmp_path / "ptq.onnx", inputs.numpy(), 64), logits(rounded, inputs).numpy()
    assert np.abs(actual - expected).max() < 0.02 * np.abs(expected).max()
    assert (actual.argmax(1) == expected.argmax(1)).mean() >= 0.98


@pytest.mark.long
def test_training_changes_weights_and_ranges(rounded, trained):
    before, after = fake_quant.state_of(rounded), fake_quant.state_of(trained)
    for name in ("blocks.0.attn.qkv.weight", f"blocks.0.attn.qkv.{fake_quant.RANGE}"):
        assert not torch.equal(before[name], after[name])


@pytest.mark.long
def test_the_file_agrees_with_the_trained_model(base, trained, files, logits):
    """Values between two steps may be rounded either way, so the difference is larger than in fp32."""
    inputs = base.held_out[0][:64]
    expected, actual = logits(trained, inputs).numpy(), run(files[1], inputs.numpy(), 64)
    assert np.abs(actual - expected).max() < 0.02 * np.abs(expected).max()
    assert (actual.argmax(1) == expected.argmax(1)).mean() >= 0.98


def test_the_file_has_the_graph_of_post_training_quantization(files, images, tmp_path):
    """So it takes the time of such a file; docs/benchmarks/precisions.md has the times."""
    quantize_static(files[0], tmp_path / "ptq.onnx", images.numpy())
    kinds = [Counter(node.op_type for node in onnx.load(path).graph.node) for path in (files[1], tmp_path / "ptq.onnx")]
    assert kinds[0] == kinds[1]
    assert kinds[0]["MatMulIntegerToFloat"] == LAYERS


def test_a_saved_state_restores_the_model(base, trained, tmp_path, logits):
    save_file({name: value.contiguous() for name, value in fake_quant.state_of(trained).items()}, tmp_path / "w")
    model = base.model()
    fake_quant.load(model, load_file(tmp_path / "w"))
    inputs = base.held_out[0][:8]
    torch.testing.assert_close(logits(model, inputs), logits(trained, inputs))


def test_the_state_of_a_plain_model_is_loaded_unchanged(base):
    model, state = base.model(), base.model().state_dict()
    fake_quant.load(model, state)
    assert fake_quant.learned(model) == ()
    assert fake_quant.state_of(model).keys() == state.keys()


def test_unrounded_restores_the_plain_layers_temporarily(base, rounded, logits):
    inputs = base.held_out[0][:8]
    before = logits(rounded, inputs)
    with fake_quant.unrounded(rounded):
        torch.testing.assert_close(logits(rounded, inputs), logits(base.model(), inputs))
    assert torch.equal(logits(rounded, inputs), before)


def test_images_with_nan_are_refused(base):
    with pytest.raises(StageError, match=r"the input of blocks\.0\.attn\.qkv has NaN or infinity"):
        fake_quant.prepare(base.model(), [torch.full((2, 1, 28, 28), torch.nan)])


def test_layers_that_are_not_in_the_file_are_an_error(rounded, files, images, tmp_path):
    with pytest.raises(StageError, match="25 of 25 layers that were trained for int8 are not in the graph"):
        quantize_static(files[0], tmp_path / "out.onnx", images.numpy(), fake_quant.learned(rounded))


# ---- gains in accuracy


def archive(name):
    with np.load(str(resources.files("vitsearch") / "assets" / "fashion_mnist_14k.npz")) as data:
        return data[f"{name}_images"][..., None], data[f"{name}_labels"].astype(np.int64)


@pytest.mark.long
def test_training_recovers_more_than_half_of_the_loss_from_outliers(base, images, tmp_path):
    """A small case of benchmarks/quantization.py: an equal model, four channels of each norm 120 times as large."""
    model = base.model()
    add_outliers(model, 120.0, 4)
    (pixels, labels), (unseen, answers) = archive("train"), archive("validation")
    unseen, answers = unseen[:500], answers[:500]
    inputs = to_tensor(unseen, ImageSize.square(28), Preprocessing((0.286,), (0.353,))).numpy()
    rounded = copy.deepcopy(model)
    fake_quant.prepare(rounded, [images])
    start = {"fp32": model, "ptq": copy.deepcopy(rounded)}
    recipe = Recipe((0, 1), 512, 64, 2e-4, 0.05, 2, 0.5, 2.0, 0)
    pool = training_pool(np.arange(len(pixels)), recipe)
    teacher = predict_logits(
        model, pixels, ImageSize.square(28), Preprocessing((0.286,), (0.353,)), precision="bf16", rows=pool
    )
    task = TrainingSpec(
        pixels,
        labels,
        ImageSize.square(28),
        Preprocessing((0.286,), (0.353,)),
        recipe,
        1,
        teacher_outputs=teacher,
        pool=pool,
    )
    fine_tune(rounded, task)
    accuracies = {}
    for name, subject in (start | {"qat": rounded}).items():
        (tmp_path / name).mkdir()
        plain, small = exported(subject, images, tmp_path / name)
        accuracies[name] = accuracy(run(plain if name == "fp32" else small, inputs, 100), answers)
    lost = {name: accuracies["fp32"] - value for name, value in accuracies.items()}
    assert lost["ptq"] >= 0.1
    assert lost["qat"] <= lost["ptq"] / 2


def test_an_encoder_of_torch_rounds_in_evaluation_too():
    """Its fast path would read the weights past the layers."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    tokens = torch.randn(4, 9, 32)
    with torch.inference_mode():
        plain = encoder(tokens)
        fake_quant.prepare(encoder, [tokens])
        rounded = encoder(tokens)
        with fake_quant.unrounded(encoder):
            restored = encoder(tokens)
    assert torch.allclose(restored, plain, atol=1e-5)
    assert float((rounded - plain).abs().max()) > 1e-3 * float(plain.abs().max())
