"""Networks that choose tokens: masks in training, a fixed number in evaluation, closed-form start, losses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vitsearch.compress import tokens
from vitsearch.compress.tokens import attention
from vitsearch.compress.tokens.dynamicvit import Masked, PolicyBlock, Predictor, masked_attention
from vitsearch.tasks import CLASSIFICATION


@pytest.fixture
def model(vit, pruned):
    return pruned(vit(), "dynamicvit", 0.5, (1,))


@pytest.fixture
def deciding(model):
    (block,) = [block for block in model.blocks if isinstance(block, PolicyBlock) and block.kept]
    return block


def test_attention_with_a_mask_of_ones_is_plain_attention(vit):
    layer, x = vit().blocks[0].attn, torch.randn(2, 17, 32)
    torch.testing.assert_close(masked_attention(layer, x, torch.ones(2, 17)), layer(x), rtol=1e-4, atol=1e-5)


def test_a_masked_token_does_not_change_the_others(vit):
    layer, x = vit().blocks[0].attn, torch.randn(1, 17, 32)
    there = torch.ones(1, 17)
    there[0, 5] = 0
    changed = x.clone()
    changed[0, 5] += 1.0
    before, after = masked_attention(layer, x, there), masked_attention(layer, changed, there)
    others = [token for token in range(17) if token != 5]
    torch.testing.assert_close(before[0, others], after[0, others], rtol=1e-4, atol=1e-5)
    assert float((before - after)[0, 5].detach().abs().max()) > 1e-3


def test_masking_in_training_equals_dropping_in_evaluation(model, deciding, images):
    """With the same decisions a model gives the same logits in training and in evaluation."""
    with torch.no_grad():
        expected = model.eval()(images)
        seen = []
        hook = deciding.predictor.register_forward_hook(lambda _, __, out: seen.append(out[..., 0] - out[..., 1]))
        model(images)
        hook.remove()
        there = torch.ones(3, 17)
        there[:, 1:] = 0.0
        there.scatter_(1, seen[0].topk(8).indices + 1, 1.0)
        deciding.mask = lambda x, _: Masked(x, there)
        torch.testing.assert_close(model.train()(images), expected, rtol=1e-3, atol=1e-4)


def test_a_dropped_token_stays_dropped(vit, images, pruned):
    model, masks = pruned(vit(), "dynamicvit", 0.5, (0, 1, 2)).train(), []
    for block in list(model.blocks)[:3]:
        block.register_forward_hook(lambda _, __, out: masks.append(out.there))
    model(images)
    for before, after in zip(masks, masks[1:], strict=False):
        assert bool((after <= before).all())
    assert torch.equal(masks[-1][:, 0], torch.ones(3))
    assert set(masks[-1].unique().tolist()) == {0.0, 1.0}


def test_initial_networks_do_not_depend_on_the_global_seed(vit, pruned):
    predictors = []
    for seed in (1, 2):
        whole = vit()
        torch.manual_seed(seed)
        predictors.append(pruned(whole, "dynamicvit", 0.5, (1,)).blocks[1].predictor.decide.weight)
    assert torch.equal(*predictors)


def test_the_shared_features_are_averaged_over_the_tokens_not_dropped():
    torch.manual_seed(0)
    network, x = Predictor(8), torch.randn(1, 5, 8)
    there = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(network(x, there)[:, :3], network(x[:, :3]))


# ---- the start


def test_a_fitted_network_ranks_tokens_like_the_attention_of_the_next_block(model, deciding):
    calibration = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    held_out = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(6))
    before = agreement(model, deciding, held_out)
    tokens.fit_predictors(model, calibration.split(16))
    assert agreement(model, deciding, held_out) > max(0.5, before + 0.2)


def agreement(model, deciding, images):
    """Mean rank correlation, within an image, between scores and the attention that the next block pays."""
    with torch.no_grad():
        x = model._pos_embed(model.patch_embed(images))
        for block in list(model.blocks)[:2]:
            x = block.whole(x) if isinstance(block, PolicyBlock) else block(x)
        following = model.blocks[2]
        heads = attention.heads_of(following.attn, following.norm1(x))
        wanted = attention.attention_received(following.attn, heads, 1, 1)
        logits = deciding.predictor(x[:, 1:])
    ranks = [values.argsort(dim=1).argsort(dim=1).float() for values in (logits[..., 0] - logits[..., 1], wanted)]
    mine, theirs = (rank - rank.mean(dim=1, keepdim=True) for rank in ranks)
    return float((mine * theirs).sum() / (mine.norm() * theirs.norm()))


def test_a_fitted_network_keeps_the_share_of_the_plan(model, deciding):
    calibration = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    tokens.fit_predictors(model, [calibration])
    shares = []
    deciding.predictor.register_forward_hook(
        lambda _, __, out: shares.append((out[..., 0] > out[..., 1]).float().mean())
    )
    model(calibration)
    assert float(shares[0]) == pytest.approx(0.5, abs=0.02)


def test_a_dropped_block_is_skipped_by_the_fit(model, deciding, images):
    """The block behind it gives the attention to fit."""
    before = deciding.predictor.inner.weight.clone()
    model.blocks[2] = nn.Identity()
    tokens.fit_predictors(model, [images])
    assert not torch.equal(deciding.predictor.inner.weight, before)


def test_fitting_is_reproducible(model, images):
    other = copy.deepcopy(model)
    for subject in (model, other):
        tokens.fit_predictors(subject, [images])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


# ---- the losses


def share_kept(model, deciding, images):
    """Mean probability, over tokens and images, that the network keeps a token."""
    with torch.no_grad():
        logits = deciding.predictor(deciding.whole(model.blocks[0](model._pos_embed(model.patch_embed(images))))[:, 1:])
    return float(logits.softmax(-1)[..., 0].mean())


def test_the_losses_lower_the_share_of_tokens_that_the_network_keeps(vit, model, deciding, images):
    """Only the network trains: a ViT that moves along gives it other inputs at every step, and numbers that depend
    on the number of threads."""
    with torch.no_grad():
        deciding.predictor.decide.bias[0] += 8.0
    assert share_kept(model, deciding, images) > 0.99
    model.train()
    optimizer = torch.optim.Adam(deciding.predictor.parameters(), lr=1e-2)
    with tokens.auxiliary_loss(model, vit(), CLASSIFICATION) as loss:
        for step in range(40):
            torch.manual_seed(step)
            optimizer.zero_grad()
            loss(images, model(images)).backward()
            optimizer.step()
    assert share_kept(model, deciding, images) < 0.8


def test_every_weight_of_the_networks_gets_a_gradient(vit, model, deciding, images):
    model.train()
    with tokens.auxiliary_loss(model, vit(), CLASSIFICATION) as loss:
        loss(images, model(images)).backward()
    assert all(value.grad.any() for value in deciding.predictor.parameters())


def test_a_model_that_keeps_all_tokens_has_only_the_ratio_loss(vit, model, deciding, images):
    """Its logits and tokens are those of the unpruned model, so the loss is 2 (1 - 8 / 16)^2."""
    with torch.no_grad():
        deciding.predictor.decide.bias[0] += 1000.0
    with tokens.auxiliary_loss(model.train(), vit(), CLASSIFICATION) as loss:
        assert float(loss(images, model(images)).detach()) == pytest.approx(2 * 0.25, abs=1e-3)


def test_frozen_networks_have_only_the_loss_of_the_logits(vit, model, deciding, images):
    model.train()
    deciding.eval()
    with tokens.auxiliary_loss(model, vit(), CLASSIFICATION) as loss:
        logits = model(images)
        value = loss(images, logits)
    expected = nn.functional.kl_div(
        logits.log_softmax(1), vit()(images).log_softmax(1), reduction="batchmean", log_target=True
    )
    assert float(value.detach()) == pytest.approx(0.5 * float(expected.detach()), rel=1e-4)


def test_hooks_are_removed_afterwards(vit, model, images):
    with tokens.auxiliary_loss(model, vit(), CLASSIFICATION):
        pass
    assert not any(module._forward_hooks for module in model.modules())
