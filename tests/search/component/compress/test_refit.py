import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from support.marks import long
from vitsearch.compress import prune, refit, scores
from vitsearch.errors import StageError

EXAMPLE = torch.zeros(1, 1, 28, 28)
SIZES = st.tuples(st.integers(2, 12), st.integers(1, 5), st.integers(0, 10_000))


def drawn(sizes):
    columns, outputs, seed = sizes
    draw = np.random.default_rng(seed)
    inputs = draw.normal(size=(200, columns)) @ draw.normal(size=(columns, columns))
    kept = sorted(draw.permutation(columns)[: draw.integers(1, columns)].tolist())
    return draw.normal(size=(outputs, columns)), inputs - inputs.mean(0), kept


@given(SIZES)
def test_keeping_all_columns_keeps_the_weights(sizes):
    weight, inputs, _ = drawn(sizes)
    fitted = refit.least_squares(weight, inputs.T @ inputs, list(range(weight.shape[1])))
    np.testing.assert_allclose(fitted, weight, atol=1e-7)


@given(SIZES)
def test_the_fit_is_never_worse_than_dropping_columns(sizes):
    weight, inputs, kept = drawn(sizes)
    fitted = refit.least_squares(weight, inputs.T @ inputs / len(inputs), kept)
    wanted = inputs @ weight.T
    dropped = np.square(wanted - inputs[:, kept] @ weight[:, kept].T).sum()
    assert np.square(wanted - inputs[:, kept] @ fitted.T).sum() <= dropped * (1 + 1e-9)


@given(SIZES)
def test_without_ridge_the_fit_is_the_least_squares_solution(sizes):
    weight, inputs, kept = drawn(sizes)
    fitted = refit.least_squares(weight, inputs.T @ inputs, kept, ridge=1e-12)
    best = np.linalg.lstsq(inputs[:, kept], inputs @ weight.T, rcond=None)[0].T
    wanted = inputs @ weight.T
    scale = np.square(wanted).sum()
    error, least = (np.square(wanted - inputs[:, kept] @ w.T).sum() for w in (fitted, best))
    assert error <= least + 1e-6 * scale


def test_constant_inputs_keep_the_weights():
    weight = np.ones((2, 3))
    assert (refit.least_squares(weight, np.zeros((3, 3)), [0, 2]) == 1).all()


def cut(base, resolved, model=None):
    model = model or base.model()
    prune.apply(model, base.family, resolved, EXAMPLE)
    return model


def kl(reference, other_logits):
    divergence = functional.kl_div(
        other_logits.log_softmax(1), reference.log_softmax(1), reduction="batchmean", log_target=True
    )
    return float(divergence)


def test_an_uncut_model_does_not_change(base):
    model, whole = base.model(), base.model()
    refit.refit(model, whole, base.family, base.resolved(), base.statistics)
    assert all(torch.equal(value, whole.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.long
def test_a_copy_of_a_dropped_neuron_replaces_it(base, logits):
    """Neuron 1 is a copy of neuron 0 in each block; after dropping it, neuron 0 takes over."""
    whole = base.model()
    with torch.no_grad():
        for block in whole.blocks:
            block.mlp.fc1.weight[1] = block.mlp.fc1.weight[0]
            block.mlp.fc1.bias[1] = block.mlp.fc1.bias[0]
    inputs, labels = (part[:64] for part in base.calibration)
    statistics = scores.collect(whole, base.family, inputs, labels)
    resolved = base.resolved()
    kept = tuple(i for i in range(768) if i != 1)
    resolved = dataclasses.replace(
        resolved, blocks=tuple(dataclasses.replace(block, ffn=kept) for block in resolved.blocks)
    )
    pruned = base.model()
    pruned.load_state_dict(whole.state_dict())
    cut(base, resolved, pruned)
    expected, broken = logits(whole, inputs), logits(pruned, inputs)
    refit.refit(pruned, whole, base.family, resolved, statistics)
    fitted = logits(pruned, inputs)
    assert kl(expected, fitted) < 0.05 * kl(expected, broken)


@pytest.mark.parametrize(("heads", "ffn"), [(3, 192), *long((6, 384), (4, 768))])
def test_least_squares_beat_the_mean_fold_and_no_refit(base, logits, monkeypatch, heads, ffn):
    resolved, (inputs, _) = base.resolved(heads, ffn), base.held_out
    expected = base.held_out_logits

    def loss_after_refit():
        model = cut(base, resolved)
        refit.refit(model, base.model(), base.family, resolved, base.statistics)
        return kl(expected, logits(model, inputs))

    no_refit, squares = kl(expected, logits(cut(base, resolved), inputs)), loss_after_refit()
    monkeypatch.setattr(refit, "least_squares", lambda weight, moments, kept: weight[:, kept])
    assert squares < 0.5 * min(loss_after_refit(), no_refit)


def test_halving_the_ffn_costs_little_accuracy(base, logits):
    resolved, (inputs, labels) = base.resolved(ffn=384), base.held_out
    model = cut(base, resolved)
    refit.refit(model, base.model(), base.family, resolved, base.statistics)
    pair = base.held_out_logits, logits(model, inputs)
    whole, half = ((values.argmax(1) == labels).float().mean() for values in pair)
    assert half >= whole - 0.02


def test_statistics_of_another_base_are_refused(base):
    statistics = dataclasses.replace(base.statistics, blocks=base.statistics.blocks[:3])
    resolved = base.resolved(ffn=64)
    with pytest.raises(StageError, match="statistics of 3 blocks, resolved plan of 6"):
        refit.refit(cut(base, resolved), base.model(), base.family, resolved, statistics)


@pytest.mark.long
def test_consumers_without_bias_are_fitted_without_centring(base, logits):
    """Layers without a bias, as with `proj_bias=False`: only the weights can take the constant."""
    whole = base.model()
    for block in whole.blocks:
        block.mlp.fc2.bias = None
    inputs, labels = (part[:64] for part in base.calibration)
    statistics = scores.collect(whole, base.family, inputs, labels)
    resolved, pruned = base.resolved(ffn=256), base.model()
    for block in pruned.blocks:
        block.mlp.fc2.bias = None
    cut(base, resolved, pruned)
    expected, broken = logits(whole, inputs), logits(pruned, inputs)
    refit.refit(pruned, whole, base.family, resolved, statistics)
    assert kl(expected, logits(pruned, inputs)) < 0.5 * kl(expected, broken)
