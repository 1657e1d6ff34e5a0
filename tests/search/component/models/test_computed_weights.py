"""Weight norm, spectral norm and parametrizations, made plain: the numbers and the names that stay."""

import copy
import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from vitsearch.models.computed_weights import fold, folded_state


class Centred(nn.Module):
    """A parametrization of one's own."""

    def forward(self, values):
        return values - values.mean()


def old(norm):
    def apply(layer, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            return norm(layer, **options)

    return apply


def centred(layer):
    return parametrize.register_parametrization(layer, "weight", Centred())


old_weight_norm, old_spectral_norm = old(nn.utils.weight_norm), old(nn.utils.spectral_norm)
NORMS = {
    "weight norm, old": old_weight_norm,
    "weight norm, old, of the whole": lambda layer: old_weight_norm(layer, dim=None),
    "weight norm": parametrizations.weight_norm,
    "spectral norm, old": old_spectral_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "one's own": centred,
    "two, one on the other": lambda layer: centred(parametrizations.weight_norm(layer)),
    "of the bias": lambda layer: old_weight_norm(layer, name="bias", dim=None),
}
IMAGES = torch.arange(2 * 3 * 8 * 8, dtype=torch.float32).reshape(2, 3, 8, 8).sin()


def network(norm, classes=5):
    """Layers in which weights are computed, after some training, with other values than those that are drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(classes)
        inner = nn.Sequential(norm(nn.Conv2d(3, 6, 3)), nn.ReLU(), norm(nn.Conv2d(6, 6, 3, groups=2)))
        model = nn.Sequential(inner, nn.Flatten(), norm(nn.Linear(96, classes)))
        for _ in range(3):
            model.train()(torch.randn(2, 3, 8, 8))
        for values in model.parameters():
            values.data += torch.randn(values.shape) * 0.05
    return model.eval()


def plain_names(classes=5):
    return network(lambda layer: layer, classes).state_dict().keys()


@pytest.mark.parametrize("norm", NORMS)
def test_a_folded_model_gives_what_it_gave_under_plain_names(norm):
    model = network(NORMS[norm])
    expected = model(IMAGES)
    folded = fold(model)
    assert folded is model
    assert folded.state_dict().keys() == plain_names()
    assert {name for name, _ in folded.named_parameters()} == plain_names()
    assert [type(layer) for layer in (folded[0][0], folded[2])] == [nn.Conv2d, nn.Linear]
    assert not any(module._forward_pre_hooks for module in folded.modules())
    torch.testing.assert_close(folded(IMAGES), expected)
    torch.testing.assert_close(folded.train()(IMAGES), expected)


@pytest.mark.parametrize("norm", NORMS)
def test_a_folded_model_is_copied_trained_and_loads_its_own_weights(norm):
    folded = fold(network(NORMS[norm]))
    other = copy.deepcopy(folded)
    other.train()(IMAGES).square().sum().backward()
    with torch.no_grad():
        for values in other.parameters():
            values -= 0.01 * values.grad
    other.eval()
    assert not torch.equal(other(IMAGES), folded(IMAGES))
    folded.load_state_dict(other.state_dict())
    torch.testing.assert_close(folded(IMAGES), other(IMAGES))


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("classes", [5, 7])
def test_the_weights_of_a_file_give_what_its_network_gives_whatever_its_classes(norm, classes):
    author = network(NORMS[norm], classes)
    state = {name: values.clone() for name, values in author.state_dict().items()}
    torch.manual_seed(1)
    folded = folded_state(network(NORMS[norm], 5), state)
    assert folded.keys() == plain_names()
    assert not any(values.requires_grad for values in folded.values())
    plain = network(lambda layer: layer, classes)
    plain.load_state_dict(folded)
    torch.testing.assert_close(plain(IMAGES), author(IMAGES))
    assert state.keys() == author.state_dict().keys()


@pytest.mark.parametrize("norm", NORMS)
def test_plain_weights_and_those_of_other_layers_stay_as_they_are(norm):
    plain = network(lambda layer: layer).state_dict() | {"extra": torch.ones(1)}
    assert folded_state(network(NORMS[norm]), plain) == plain


def test_a_file_of_the_older_weight_norm_fits_the_parametrized_one_as_in_torch():
    state, author = network(old_weight_norm).state_dict(), network(parametrizations.weight_norm)
    author.load_state_dict(state)
    plain = network(lambda layer: layer)
    plain.load_state_dict(folded_state(network(parametrizations.weight_norm), state))
    torch.testing.assert_close(plain(IMAGES), author(IMAGES))


@pytest.mark.parametrize("norm", NORMS)
def test_a_layer_under_two_names_is_computed_for_both(norm):
    def shared():
        layer = NORMS[norm](nn.Linear(6, 6))
        return nn.Sequential(layer, nn.ReLU(), layer).eval()

    author, vectors = shared(), torch.randn(2, 6)
    expected, state = author(vectors), author.state_dict()
    model = fold(shared())
    model.load_state_dict(folded_state(shared(), state))
    torch.testing.assert_close(model(vectors), expected)


def test_a_model_without_computed_weights_stays():
    model = network(lambda layer: layer)
    model[0][0].register_forward_pre_hook(lambda _, inputs: (inputs[0] + 1,))
    expected, state = model(IMAGES), model.state_dict()
    assert fold(model) is model
    assert torch.equal(model(IMAGES), expected)
    assert folded_state(model, state) == state
