"""Networks that decide: masks in training, a fixed number in evaluation, a start in closed form, their losses."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from vitsearch.compress import tokens
from vitsearch.compress.tokens import attention
from vitsearch.compress.tokens.dynamicvit import Masked, PolicyBlock, Predictor, masked_attention


@pytest.fixture
def model(vit, pruned):
    return pruned(vit(), "dynamicvit", 0.5, (1,))


@pytest.fixture
def deciding(model):
    (block,) = [block for block in model.blocks if isinstance(block, PolicyBlock) and block.kept]
    return block


def test_a_mask_of_all_is_plain_attention(vit):
    layer, x = vit().blocks[0].attn, torch.randn(2, 17, 32)
    torch.testing.assert_close(masked_attention(layer, x, torch.ones(2, 17)), layer(x), rtol=1e-4, atol=1e-5)


def test_who_is_masked_is_not_seen_by_the_others(vit):
    layer, x = vit().blocks[0].attn, torch.randn(1, 17, 32)
    there = torch.ones(1, 17)
    there[0, 5] = 0
    changed = x.clone()
    changed[0, 5] += 1.0
    before, after = masked_attention(layer, x, there), masked_attention(layer, changed, there)
    others = [token for token in range(17) if token != 5]
    torch.testing.assert_close(before[0, others], after[0, others], rtol=1e-4, atol=1e-5)
    assert float((before - after)[0, 5].detach().abs().max()) > 1e-3


def test_the_mask_of_training_is_the_drop_of_evaluation(model, deciding, images):
    """With the same decisions a model in training gives the logits of one in evaluation."""
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


def test_who_was_dropped_stays_dropped(vit, images, pruned):
    model, masks = pruned(vit(), "dynamicvit", 0.5, (0, 1, 2)).train(), []
    for block in list(model.blocks)[:3]:
        block.register_forward_hook(lambda _, __, out: masks.append(out.there))
    model(images)
    for before, after in zip(masks, masks[1:], strict=False):
        assert bool((after <= before).all())
    assert torch.equal(masks[-1][:, 0], torch.ones(3))
    assert set(masks[-1].unique().tolist()) == {0.0, 1.0}


def test_networks_are_drawn_alike_whatever_the_seed(vit, pruned):
    found = []
    for seed in (1, 2):
        whole = vit()
        torch.manual_seed(seed)
        found.append(pruned(whole, "dynamicvit", 0.5, (1,)).blocks[1].predictor.decide.weight)
    assert torch.equal(*found)


def test_of_what_all_share_a_network_sees_the_mean_of_who_is_there():
    torch.manual_seed(0)
    network, x = Predictor(8), torch.randn(1, 5, 8)
    there = torch.tensor([[1.0, 1.0, 1.0, 0.0, 0.0]])
    torch.testing.assert_close(network(x, there)[:, :3], network(x[:, :3]))


# ---- the start


def test_a_fitted_network_ranks_as_the_attention_to_come(model, deciding):
    calibration = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    held_out = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(6))
    before = agreement(model, deciding, held_out)
    tokens.fit_predictors(model, calibration.split(16))
    assert agreement(model, deciding, held_out) > max(0.5, before + 0.2)


def agreement(model, deciding, images):
    """Mean rank correlation, within an image, of scores and the attention that the next block pays."""
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


def test_a_fitted_network_lets_the_share_pass_that_is_kept(model, deciding):
    calibration = torch.randn(64, 3, 16, 16, generator=torch.Generator().manual_seed(5))
    tokens.fit_predictors(model, [calibration])
    shares = []
    deciding.predictor.register_forward_hook(
        lambda _, __, out: shares.append((out[..., 0] > out[..., 1]).float().mean())
    )
    model(calibration)
    assert float(shares[0]) == pytest.approx(0.5, abs=0.02)


def test_a_block_that_is_gone_is_passed_over(model, deciding, images):
    """What comes behind it says who will be attended to."""
    before = deciding.predictor.inner.weight.clone()
    model.blocks[2] = nn.Identity()
    tokens.fit_predictors(model, [images])
    assert not torch.equal(deciding.predictor.inner.weight, before)


def test_fitting_twice_gives_the_same(model, images):
    other = copy.deepcopy(model)
    for made in (model, other):
        tokens.fit_predictors(made, [images])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


# ---- what they learn from


def descended(model, unpruned, images, steps):
    with tokens.auxiliary_loss(model, unpruned) as loss:
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        values = []
        for step in range(steps):
            torch.manual_seed(step)
            optimizer.zero_grad()
            value = loss(images, model(images))
            value.backward()
            optimizer.step()
            values.append(float(value.detach()))
    return values


def test_the_losses_teach_how_many_should_stay(vit, model, deciding, images):
    with torch.no_grad():
        deciding.predictor.decide.bias[0] += 8.0  # lets all pass
    model.train()
    descended(model, vit(), images, steps=40)
    with torch.no_grad():
        logits = deciding.predictor(deciding.whole(model.blocks[0](model._pos_embed(model.patch_embed(images))))[:, 1:])
    assert float(logits.softmax(-1)[..., 0].mean()) < 0.8


def test_every_weight_of_the_networks_gets_a_gradient(vit, model, deciding, images):
    model.train()
    with tokens.auxiliary_loss(model, vit()) as loss:
        loss(images, model(images)).backward()
    assert all(value.grad.any() for value in deciding.predictor.parameters())


def test_a_model_that_lets_all_pass_is_only_told_to_drop(vit, model, deciding, images):
    """Logits and tokens are those of the unpruned model then; what is left is 2 (1 - 8 / 16)^2."""
    with torch.no_grad():
        deciding.predictor.decide.bias[0] += 1000.0
    with tokens.auxiliary_loss(model.train(), vit()) as loss:
        assert float(loss(images, model(images)).detach()) == pytest.approx(2 * 0.25, abs=1e-3)


def test_frozen_networks_are_not_told_anything(vit, model, deciding, images):
    model.train()
    deciding.eval()
    with tokens.auxiliary_loss(model, vit()) as loss:
        logits = model(images)
        value = loss(images, logits)
    expected = nn.functional.kl_div(
        logits.log_softmax(1), vit()(images).log_softmax(1), reduction="batchmean", log_target=True
    )
    assert float(value.detach()) == pytest.approx(0.5 * float(expected.detach()), rel=1e-4)


def test_nothing_watches_the_model_afterwards(vit, model, images):
    with tokens.auxiliary_loss(model, vit()):
        pass
    assert not any(module._forward_hooks for module in model.modules())
