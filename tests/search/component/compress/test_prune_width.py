"""Readers of a narrower residual stream, fitted on the base that ships with vitsearch."""

from __future__ import annotations

import dataclasses
from functools import partial

import pytest
import torch
from torch.nn import functional

from vitsearch.compress import prune, prune_width, sequential, tokens
from vitsearch.compress.statistics import Statistics
from vitsearch.core.token_counts import tokens_left

EXAMPLE = torch.zeros(1, 1, 28, 28)
IMAGES = 96
CHANNELS = tuple(channel for channel in range(192) if channel % 4)


def kl(reference, other_logits):
    return float(
        functional.kl_div(other_logits.log_softmax(1), reference.log_softmax(1), reduction="batchmean", log_target=True)
    )


def fitted(base, resolved, readers=True):
    """The base cut down to `resolved` and CHANNELS, after the sequential refit."""
    images, model = base.calibration[0][:IMAGES], base.model()
    prune.apply(model, base.family, resolved, EXAMPLE)
    wanted = sequential.targets(base.model(), base.family, images, CHANNELS)
    read = prune_width.readings(base.model(), model, base.family, images)
    base.family.slice_stream(model, CHANNELS)
    tokens.apply(model, resolved)
    alongside = partial(prune_width.fitting, model, base.family, CHANNELS, read) if readers else None
    sequential.fit(model, base.family, wanted, images, alongside)
    return model


@pytest.mark.long
def test_fitted_readers_more_than_halve_the_divergence_from_the_base(base, logits):
    inputs, model = base.held_out[0], base.model()
    expected = base.held_out_logits
    prune.apply(model, base.family, dataclasses.replace(base.resolved(), embed=CHANNELS), EXAMPLE)
    without, fitted_too = (fitted(base, base.resolved(), readers) for readers in (False, True))
    losses = [kl(expected, logits(candidate, inputs)) for candidate in (model, without, fitted_too)]
    assert losses[1] < 0.4 * losses[0]
    assert losses[2] < 0.5 * losses[1]
    assert not any(module._forward_hooks for module in fitted_too.modules())


@pytest.mark.parametrize("method", ["topk", "evit"])
@pytest.mark.long
def test_readers_are_fitted_with_cut_heads_channels_tokens_and_blocks(base, logits, method):
    resolved, inputs = base.resolved(4, 384), base.held_out[0]
    gone = dataclasses.replace(resolved.blocks[3], heads=(), ffn=())
    left = tokens_left(method, 0.5, (1, 3), depth=6, patches=49, prefix=1)
    left = (*left[:3], left[2], *left[4:])
    blocks = (*resolved.blocks[:3], gone, *resolved.blocks[4:])
    resolved = dataclasses.replace(resolved, blocks=blocks, tokens=left, token_pruning_method=method)
    expected = base.held_out_logits
    losses = [kl(expected, logits(fitted(base, resolved, readers), inputs)) for readers in (False, True)]
    assert losses[1] < 0.9 * losses[0]


def test_every_channel_has_one_score_which_is_saved(base, tmp_path):
    scores = base.statistics.scores().embed
    assert len(scores) == 192
    assert all(score > 0 for score in scores)
    base.statistics.save(tmp_path / "statistics.safetensors")
    assert Statistics.load(tmp_path / "statistics.safetensors").embed == scores
