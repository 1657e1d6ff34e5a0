"""The sequential refit, on the base that ships with vitsearch."""

import dataclasses

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional

from support.marks import long
from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import prune, refit, sequential, tokens
from vitsearch.core.image_size import ImageSize
from vitsearch.core.token_counts import tokens_left
from vitsearch.errors import StageError

EXAMPLE = torch.zeros(1, 1, 28, 28)
IMAGES = 96


@pytest.fixture(scope="module")
def wanted(base):
    return sequential.targets(base.model(), base.family, base.calibration[0][:IMAGES])


def cut(base, resolved):
    """The base cut down to `resolved`, after the parallel refit."""
    model = base.model()
    prune.apply(model, base.family, resolved, EXAMPLE)
    refit.refit(model, base.model(), base.family, resolved, base.statistics)
    return model


def kl(reference, other_logits):
    return float(
        functional.kl_div(other_logits.log_softmax(1), reference.log_softmax(1), reduction="batchmean", log_target=True)
    )


def test_both_classifiers_of_repvit_are_fitted():
    model = timm.create_model("repvit_m0_9", num_classes=4)
    assert len(sequential.classifiers(model)) == 2


class Cosine(nn.Linear):
    """Its logits do not grow with its weights."""

    def forward(self, features):
        return 10.0 * functional.linear(functional.normalize(features), functional.normalize(self.weight))


def test_a_classifier_with_a_forward_of_its_own_is_left_alone(base):
    def with_cosine(model):
        head = Cosine(model.head.in_features, model.head.out_features, bias=False)
        head.weight = model.head.weight
        model.head = head
        return model

    images = base.calibration[0][:IMAGES]
    expected = sequential.targets(with_cosine(base.model()), base.family, images)
    model = with_cosine(cut(base, base.resolved(ffn=384)))
    before = model.head.weight.clone()
    sequential.fit(model, base.family, expected, images)
    assert torch.equal(model.head.weight, before)


def test_a_weight_that_another_layer_shares_does_not_change(base):
    """It was fitted for one of the two, and the other would get it."""

    def with_tied(model):
        model.blocks[5].mlp.fc2.weight = model.blocks[0].mlp.fc2.weight
        return model

    images, whole = base.calibration[0][:IMAGES], base.resolved()
    narrow = base.resolved(ffn=384).blocks[2]
    resolved = dataclasses.replace(whole, blocks=(*whole.blocks[:2], narrow, *whole.blocks[3:]))
    model, reference = with_tied(base.model()), with_tied(base.model())
    prune.apply(model, base.family, resolved, EXAMPLE)
    sequential.fit(model, base.family, sequential.targets(reference, base.family, images), images)
    assert torch.equal(model.blocks[5].mlp.fc2.weight, reference.blocks[0].mlp.fc2.weight)
    assert not torch.equal(model.blocks[4].mlp.fc2.weight, reference.blocks[4].mlp.fc2.weight)


@pytest.mark.long
def test_an_uncut_model_does_not_change(base, wanted):
    model, whole = base.model(), base.model().state_dict()
    sequential.fit(model, base.family, wanted, base.calibration[0][:IMAGES])
    assert all(torch.equal(value, whole[name]) for name, value in model.state_dict().items())


def test_layers_in_front_of_the_first_cut_do_not_change(base, wanted):
    resolved = base.resolved(ffn=384)
    last = resolved.blocks[-1]
    resolved = dataclasses.replace(resolved, blocks=(*base.resolved().blocks[:-1], last))
    model, whole = cut(base, resolved), base.model().state_dict()
    sequential.fit(model, base.family, wanted, base.calibration[0][:IMAGES])
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, whole[name])}
    assert {name.rpartition(".")[0] for name in changed} == {"blocks.5.mlp.fc1", "blocks.5.mlp.fc2", "head"}


@pytest.fixture(scope="module")
def wanted_of_all(base):
    """Targets on all calibration images: fewer are not enough to beat the statistics of all of them."""
    return sequential.targets(base.model(), base.family, base.calibration[0])


@pytest.mark.long
def test_it_beats_the_parallel_refit(base, wanted_of_all, logits):
    model, (inputs, _) = cut(base, base.resolved(2, 192)), base.held_out
    expected, before = base.held_out_logits, logits(model, inputs)
    sequential.fit(model, base.family, wanted_of_all, base.calibration[0])
    assert kl(expected, logits(model, inputs)) < 0.9 * kl(expected, before)


@pytest.mark.long
@pytest.mark.parametrize("method", ["topk", *long("evit", "dynamicvit")])
def test_it_fits_the_tokens_that_are_left(base, wanted_of_all, logits, method):
    """A model with fewer tokens is fitted to the values of the base for these tokens."""
    left = tokens_left(method, 0.5, (1, 3), depth=6, patches=49, prefix=1)
    resolved = dataclasses.replace(base.resolved(4, 384), tokens=left, token_pruning_method=method)
    model, (inputs, _) = cut(base, resolved), base.held_out
    tokens.apply(model, resolved)
    tokens.fit_predictors(model, [base.calibration[0]])
    expected, before = base.held_out_logits, logits(model, inputs)
    assert sequential.follows(resolved)
    sequential.fit(model, base.family, wanted_of_all, base.calibration[0])
    assert kl(expected, logits(model, inputs)) < 0.8 * kl(expected, before)
    assert "drop_from" not in model.blocks[1].__dict__


@pytest.mark.long
def test_it_compensates_for_a_dropped_block(base, wanted, logits):
    resolved, (inputs, _) = base.resolved(), base.held_out
    blocks = (*resolved.blocks[:3], dataclasses.replace(resolved.blocks[3], heads=(), ffn=()), *resolved.blocks[4:])
    model = cut(base, dataclasses.replace(resolved, blocks=blocks))
    expected, before = base.held_out_logits, logits(model, inputs)
    sequential.fit(model, base.family, wanted, base.calibration[0][:IMAGES])
    assert kl(expected, logits(model, inputs)) < 0.9 * kl(expected, before)


@pytest.mark.long
def test_it_corrects_the_error_of_the_layers_in_front(base, wanted, logits):
    """The bias of a norm in front is wrong; the fit does not change it, but corrects the stream behind it."""
    model, images = base.model(), base.calibration[0][:IMAGES]
    expected = base.held_out_logits
    with torch.no_grad():
        model.blocks[0].norm1.bias += 0.5
    broken = kl(expected, logits(model, base.held_out[0]))
    sequential.fit(model, base.family, wanted, images)
    assert kl(expected, logits(model, base.held_out[0])) < 0.2 * broken


def test_a_layer_of_a_convolutional_family_with_a_batch_norm_behind(logits):
    spec = ModelSpec("efficientvit_fmnist", "builtin", ImageSize.square(28), 10, 1)
    family = backbones.find(spec.backbone)
    whole, model = family.build(spec).model, family.build(spec).model
    images = torch.randn(32, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    norms[3].running_mean += 0.3
    expected, broken = logits(whole, images), logits(model, images)
    sequential.fit(model, family, sequential.targets(whole, family, images), images)
    assert kl(expected, logits(model, images)) < 0.2 * kl(expected, broken)


def test_a_fit_that_is_not_finite_is_refused(base, wanted):
    model = base.model()
    with torch.no_grad():
        model.blocks[2].norm1.bias.fill_(torch.nan)
    with pytest.raises(StageError, match="NaN or infinity"):
        sequential.fit(model, base.family, wanted, base.calibration[0][:IMAGES])
