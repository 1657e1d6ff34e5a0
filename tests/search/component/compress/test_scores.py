import numpy as np
import pytest
import torch
from torch.nn import functional

from vitsearch import backbones
from vitsearch.compress import matrices, refit, scores
from vitsearch.core.image_size import ImageSize
from vitsearch.errors import StageError
from vitsearch.testing.families.subject import smaller_models


def test_shapes_match_the_block_structure(base):
    scores = base.statistics.scores()
    assert [len(row) for row in scores.heads] == [6] * 6
    assert [len(row) for row in scores.ffn] == [768] * 6
    assert base.statistics.images == 256
    block = base.statistics.blocks[3]
    assert (block.heads.mean.shape, block.heads.covariance.shape) == ((192,), (192, 192))
    assert (block.ffn.mean.shape, block.ffn.covariance.shape) == ((768,), (768, 768))
    assert block.ffn.covariance.dtype == np.float32


def seen(model, layer, inputs, labels):
    """Inputs of one layer and their gradients, by plain autograd."""
    kept = []

    def look(_, args):
        args[0].retain_grad()
        kept.append(args[0])

    handle = layer.register_forward_pre_hook(look)
    functional.cross_entropy(model(inputs), labels, reduction="sum").backward()
    handle.remove()
    return kept[0].detach(), kept[0].grad


@pytest.mark.long
def test_statistics_agree_with_autograd_and_numpy(base):
    model, (inputs, labels) = base.model(), [part[:40] for part in base.calibration]
    collected = scores.collect(model, base.family, inputs, labels, batch_size=16)
    values, slopes = seen(model, model.blocks[2].attn.proj, inputs, labels)
    taylor = (values * slopes).sum(1).reshape(40, 6, 32).sum(2).abs().sum(0)
    rows = values.flatten(0, 1).double().numpy()
    heads = collected.blocks[2].heads
    np.testing.assert_allclose(heads.taylor, taylor, rtol=1e-3)
    np.testing.assert_allclose(heads.mean, rows.mean(0), atol=1e-5)
    np.testing.assert_allclose(heads.covariance, np.cov(rows.T, bias=True), atol=1e-5)
    weight = model.blocks[2].attn.proj.weight.detach().double().numpy()
    own = [slice(head * 32, head * 32 + 32) for head in range(6)]
    added = [(rows[:, columns] @ weight[:, columns].T).var(0).sum() for columns in own]
    np.testing.assert_allclose(heads.variance, added, rtol=1e-3)


def test_the_batch_size_does_not_matter(base):
    inputs, labels = (part[:24] for part in base.calibration)
    whole, pieces = (scores.collect(base.model(), base.family, inputs, labels, batch_size=size) for size in (24, 5))
    for first, second in zip(whole.blocks, pieces.blocks, strict=True):
        np.testing.assert_allclose(first.ffn.taylor, second.ffn.taylor, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(first.ffn.covariance, second.ffn.covariance, atol=1e-5)


def test_the_score_of_a_block_is_that_of_its_consumers_together(base):
    model, (inputs, labels) = base.model(), [part[:24] for part in base.calibration]
    collected = scores.collect(model, base.family, inputs, labels, batch_size=5)
    terms = [seen(model, layer, inputs, labels) for layer in (model.blocks[2].attn.proj, model.blocks[2].mlp.fc2)]
    expected = sum((values * slopes).flatten(1).sum(1) for values, slopes in terms).abs().sum()
    assert collected.depth[2] == pytest.approx(float(expected), rel=1e-3)


def test_scores_of_windows_are_summed_over_their_image():
    name = "swin_tiny_patch4_window7_224"
    family = backbones.find(name)
    torch.manual_seed(0)
    with smaller_models(name, {"depths": (2, 2, 1, 1), "embed_dim": 48}):
        model = family.build(backbones.ModelSpec(name, "none", ImageSize.square(64), 10)).model
    inputs, labels = torch.randn(3, 3, 64, 64), torch.tensor([0, 1, 2])
    whole, pieces = (scores.collect(model, family, inputs, labels, batch_size=size).depth for size in (3, 2))
    assert min(whole) > 0
    np.testing.assert_allclose(whole, pieces, rtol=1e-3)


def test_the_model_is_not_changed(base):
    model = base.model()
    scores.collect(model, base.family, *(part[:2] for part in base.calibration))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(block.attn.fused_attn for block in model.blocks)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_base_with_a_loss_of_nan_is_refused(base):
    model = base.model()
    torch.nn.init.constant_(model.head.bias, float("nan"))
    with pytest.raises(StageError, match="scoring heads and channels failed .not_finite."):
        scores.collect(model, base.family, *(part[:2] for part in base.calibration))


def test_inputs_that_hardly_vary_leave_the_weights_unchanged():
    """As in an untrained model: the variation is lost in the rounding of float32 products."""
    torch.manual_seed(0)
    layer, values = torch.nn.Linear(64, 8), 0.3 + 1e-6 * torch.randn(16, 50, 64)
    watch = scores._Watch(layer, 64, 1)
    watch.record(layer, (values,))
    watch.add(torch.zeros_like(values))
    kept, weight = list(range(0, 64, 2)), matrices.weight(layer)
    fitted = refit.least_squares(weight, watch.result().covariance.astype(np.float64), kept)
    assert np.abs(fitted - weight[:, kept]).max() < np.abs(weight).max()
