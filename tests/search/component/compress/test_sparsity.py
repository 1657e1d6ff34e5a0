"""Zero weights: which and how many, their survival, and the closed-form correction of the other weights."""

import copy
import dataclasses

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from support.marks import long
from vitsearch.compress import sparse_file, sparsity, tokens
from vitsearch.compress.quantization import fake_quant, quantize
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Recipe
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.errors import StageError
from vitsearch.export.graph.onnx_file import write_onnx
from vitsearch.training import fine_tune

RECIPE = Recipe((0, 1), 64, 16, 1e-3, 0.05, 0, 0.0, 1.0, 0)
SMALL = {"embed_dim": 32, "depths": (1, 1), "num_heads": (1, 2)}
KINDS = ("50%", "75%", "2:4")
IMAGES = 32


def kl(reference, other_logits):
    return float(
        functional.kl_div(other_logits.log_softmax(1), reference.log_softmax(1), reduction="batchmean", log_target=True)
    )


def zeros(model):
    return {name: layer.weight == 0 for name, layer in sparsity.layers(model).items()}


def share(model):
    masks = zeros(model).values()
    return float(sum(zero.sum() for zero in masks)) / sum(zero.numel() for zero in masks)


@pytest.fixture(scope="module")
def fitted(base):
    by_kind = {}

    def make(kind):
        if kind not in by_kind:
            by_kind[kind] = base.model()
            sparsity.fit(by_kind[kind], kind, base.calibration[0][:IMAGES])
        return copy.deepcopy(by_kind[kind])

    return make


def test_the_classifier_the_stem_and_tables_stay_dense(base):
    names = set(sparsity.layers(base.model()))
    assert len(names) == 4 * 6
    assert names.isdisjoint({"head", "patch_embed.proj"})
    swin = timm.create_model("swinv2_tiny_window8_256", img_size=64, **SMALL)
    assert not [name for name in sparsity.layers(swin) if "cpb_mlp" in name]
    relative = sparsity.layers(timm.create_model("test_vit_relpos"))
    assert "blocks.0.attn.qkv" in relative
    assert not [name for name in relative if "rel_pos" in name]


def test_networks_that_choose_tokens_stay_dense(base):
    model = base.model()
    before = set(sparsity.layers(model))
    tokens.apply(
        model, dataclasses.replace(base.resolved(), tokens=(50, 26, 26, 14, 14, 14), token_pruning_method="dynamicvit")
    )
    assert {name.replace(".block.", ".") for name in sparsity.layers(model)} == before


def test_convolutions_merged_with_an_identity_stay_dense():
    names = set(sparsity.layers(timm.create_model("fastvit_t8")))
    assert "stages.0.blocks.0.mlp.fc1" in names
    assert not [name for name in names if name.startswith("stem")]


@pytest.mark.parametrize(("kind", "wanted"), [("2:4", 0.5), *long(("50%", 0.5), ("75%", 0.75))])
@pytest.mark.parametrize("how", ["magnitude", "fit"])
def test_the_requested_share_of_weights_is_zero(base, fitted, how, kind, wanted):
    model = base.model() if how == "magnitude" else fitted(kind)
    if how == "magnitude":
        sparsity.magnitude(model, kind)
    assert share(model) == pytest.approx(wanted, abs=1e-3)
    sparsity.verify(model, kind)


def test_magnitude_keeps_the_larger_two_of_four_neighbouring_inputs():
    model = timm.create_model("mobilevit_xxs", num_classes=4, img_size=None)
    whole = copy.deepcopy(model)
    sparsity.magnitude(model, "2:4")
    name = "stages.2.1.conv_kxk.conv"  # three pixels wide
    before, after = (m.get_submodule(name).weight.detach() for m in (whole, model))
    groups, kept = (w.unflatten(1, (-1, 4)) for w in (before.abs(), after != 0))
    assert (kept.sum(2) == 2).all()
    assert torch.equal(groups.topk(2, dim=2).values.sum(2), (groups * kept).sum(2))
    assert torch.equal(after[after != 0], before[after != 0])


@pytest.mark.long
@pytest.mark.parametrize("kind", ["2:4", *long("50%", "75%")])
def test_the_closed_form_is_nearer_to_the_base_than_magnitude(base, fitted, logits, kind):
    plain = base.model()
    sparsity.magnitude(plain, kind)
    held_out = base.held_out[0]
    expected = base.held_out_logits
    distances = [kl(expected, logits(model, held_out)) for model in (plain, fitted(kind))]
    assert distances[1] < 0.6 * distances[0]


def test_a_layer_whose_forward_is_not_called_keeps_its_largest_weights(base):
    """Swin V2 uses the weights of a layer that it never calls."""
    torch.manual_seed(0)
    model = timm.create_model("swinv2_tiny_window8_256", img_size=64, num_classes=4, **SMALL)
    sparsity.fit(model, "2:4", torch.randn(2, 3, 64, 64))
    sparsity.verify(model, "2:4")


def test_independent_inputs_leave_the_other_weights_unchanged():
    weight = np.random.default_rng(0).normal(size=(3, 8))
    after = sparsity.sparsified(weight, np.diag(np.arange(1.0, 9.0)), sparsity.Choice(0.5, in_fours=True))
    assert ((after == 0).reshape(-1, 4).sum(1) == 2).all()
    assert np.array_equal(after[after != 0], weight[after != 0])


@given(smaller=st.floats(0.1, 1.0), larger=st.floats(2.0, 4.0))
def test_an_equal_input_takes_over_the_weight_of_a_dropped_one(smaller, larger):
    """Two equal inputs: the smaller weight becomes zero and the other their sum."""
    alike = np.array([[1.0, 1.0], [1.0, 1.0]])
    after = sparsity.sparsified(np.array([[smaller, larger]]), alike, sparsity.Choice(0.5, in_fours=False))
    assert after[0, 0] == 0
    assert after[0, 1] == pytest.approx(smaller + larger, rel=0.02)  # except for the ridge


def task(base):
    images, labels = base.calibration
    pixels = ((images * 0.353 + 0.286) * 255).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()
    return fine_tune.TrainingSpec(
        pixels[:64], labels[:64].numpy(), ImageSize.square(28), Preprocessing((0.286,), (0.353,)), RECIPE, epochs=1
    )


@pytest.mark.parametrize("rounding", [False, True])
@pytest.mark.long
def test_zeros_stay_zero_while_the_rest_learns(base, fitted, rounding):
    model = fitted("2:4")
    if rounding:
        fake_quant.prepare(model, [base.calibration[0][:8]])
    before, start = zeros(model), copy.deepcopy(model.state_dict())
    with sparsity.frozen_zeros(model):
        fine_tune.fine_tune(model, task(base))
    assert all(torch.equal(zero, before[name]) for name, zero in zeros(model).items())
    assert not torch.equal(model.state_dict()["blocks.0.attn.qkv.weight"], start["blocks.0.attn.qkv.weight"])
    fine_tune.fine_tune(model, task(base))
    assert any(not torch.equal(zero, before[name]) for name, zero in zeros(model).items()), "nothing held them"


@pytest.mark.parametrize(("kind", "message"), [("2:4", "blocks.0.mlp.fc1 has more"), ("50%", "are zero, not 50%")])
def test_lost_zeros_are_refused(base, kind, message):
    model = base.model()
    sparsity.magnitude(model, kind)
    nn.init.ones_(model.blocks[0].mlp.fc1.weight[:, :8] if kind == "2:4" else model.blocks[0].mlp.fc1.weight)
    with pytest.raises(StageError, match=message):
        sparsity.verify(model, kind)


def test_a_fit_on_infinite_inputs_is_refused(base):
    with pytest.raises(StageError, match="NaN"):
        sparsity.fit(base.model(), "2:4", torch.full((2, 1, 28, 28), torch.inf))


@pytest.mark.parametrize("precision", ["int8_ptq", *long("fp16", "int8_dynamic", "int8_weights")])
def test_files_of_lower_precision_have_the_pattern(base, tmp_path, precision):
    plain, small = tmp_path / "plain.onnx", tmp_path / "small.onnx"
    model = base.model()
    sparsity.magnitude(model, "2:4")
    write_onnx(model, (1, 1, 28, 28), plain)
    quantize.quantize(plain, small, precision, base.calibration[0][:8].numpy())
    inner = [zero for zero in sparse_file.zeros(small) if zero.mean() > 0.4]
    assert len(inner) == 4 * 6
    assert all((zero.reshape(-1, 4).sum(1) >= 2).all() for zero in inner)


@pytest.mark.long
def test_the_file_has_the_zeros_and_compresses(base, tmp_path):
    plain, sparse = tmp_path / "plain.onnx", tmp_path / "sparse.onnx"
    model = base.model()
    write_onnx(model, (1, 1, 28, 28), plain)
    sparsity.magnitude(model, "75%")
    write_onnx(model, (1, 1, 28, 28), sparse)
    assert sum(zero.mean() > 0.7 for zero in sparse_file.zeros(sparse)) == 4 * 6
    assert sum(zero.mean() > 0.01 for zero in sparse_file.zeros(plain)) == 0
    assert sparse.stat().st_size == plain.stat().st_size
    assert sparse_file.compressed_bytes(sparse) < 0.4 * sparse_file.compressed_bytes(plain)
