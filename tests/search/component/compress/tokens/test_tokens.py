"""Behaviour that all methods of token pruning share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from support.int8 import exact_int8
from support.marks import long
from vitsearch.compress import macs, tokens
from vitsearch.compress.quantization import fake_quant, quantize
from vitsearch.core.image_size import ImageSize
from vitsearch.core.resolve import ResolvedBlock, ResolvedPlan
from vitsearch.errors import StageError
from vitsearch.export import evaluate
from vitsearch.export.graph.onnx_file import write_onnx

METHODS = ("topk", "evit", "tome", "dynamicvit")
BLOCKS = tuple(ResolvedBlock((0, 1), tuple(range(128))) for _ in range(4))
PLAN = ResolvedPlan("any", ImageSize.square(16), None, BLOCKS, (17, 9, 9, 9), "topk")


@pytest.fixture(params=["topk", "tome", *long("evit", "dynamicvit")])
def method(request):
    return request.param


def counts_of(model, images):
    """Numbers of tokens behind each block."""
    seen = []
    for block in model.blocks:
        block.register_forward_hook(lambda _, __, out: seen.append((out if torch.is_tensor(out) else out.x).shape[1]))
    model(images)
    return tuple(seen)


def test_each_block_passes_on_the_tokens_of_the_plan(vit, images):
    model = vit()
    tokens.apply(model, PLAN)
    assert counts_of(model, images) == PLAN.tokens


@pytest.mark.parametrize("name", METHODS)
def test_the_plan_holds_for_named_blocks(vit, images, pruned, name):
    expected = {"topk": (17, 9, 5, 5), "evit": (17, 10, 6, 6), "tome": (17, 9, 5, 5), "dynamicvit": (17, 9, 5, 5)}
    assert counts_of(pruned(vit(), name, 0.5, (1, 2)), images) == expected[name]


def test_a_plan_without_tokens_changes_nothing(vit):
    model = vit()
    before = list(model.blocks)
    tokens.apply(model, replace(PLAN, tokens=(), token_pruning_method=None))
    assert list(model.blocks) == before


def test_names_of_weights_do_not_change(vit, pruned, method):
    names = [name for name in pruned(vit(), method).state_dict() if ".predictor." not in name]
    assert set(names) == vit().state_dict().keys()


@pytest.mark.parametrize("training", [False, True])
def test_training_and_evaluation_mode_are_kept(vit, pruned, method, training):
    model = pruned(vit().train(training), method)
    assert {module.training for module in model.modules()} == {training}


def test_weights_of_a_pruned_model_load_into_another(vit, images, pruned, method):
    trained, fresh = pruned(vit(), method), pruned(vit(), method)
    for parameter in fresh.parameters():
        nn.init.zeros_(parameter)
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh(images), trained(images))


def test_an_image_does_not_depend_on_the_others_of_its_batch(vit, images, pruned, method):
    model = pruned(vit(), method)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=1e-4, atol=1e-5)


def test_every_weight_gets_a_gradient(vit, images, pruned, method):
    model = pruned(vit(), method).train()
    nn.functional.cross_entropy(model(images), torch.tensor([0, 1, 2])).backward()
    assert [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_gradient_checkpointing_gives_the_same_gradients(vit, images, pruned, method):
    slopes = []
    for again in (False, True):
        torch.manual_seed(3)
        model = pruned(vit(), method).train()
        model.set_grad_checkpointing(again)
        model(images).sum().backward()
        slopes.append(model.blocks[0].mlp.fc1.weight.grad)
    torch.testing.assert_close(*slopes)


@pytest.mark.parametrize("fused", [False, True])
def test_both_kernels_of_attention_agree(vit, images, pruned, method, fused):
    expected = pruned(vit(), method)(images)
    model = pruned(vit(), method)
    for block in model.blocks:
        block.attn.fused_attn = fused
    torch.testing.assert_close(model(images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("arguments", [{}, {"reg_tokens": 2}, *long({"init_values": 0.5}, {"qk_norm": True})])
def test_exports_and_agrees_with_its_runtime(vit, pruned, method, arguments, tmp_path):
    report = write_onnx(pruned(vit(**arguments), method), (1, 3, 16, 16), tmp_path / "model.onnx")
    assert report.parity_rel <= 1e-4


@pytest.mark.parametrize("precision", ["int8_ptq", *long("int8_dynamic")])
def test_exports_to_int8(vit, images, pruned, method, precision, tmp_path):
    plain, small = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    model = pruned(vit(), method)
    write_onnx(model, (1, 3, 16, 16), plain)
    quantize.quantize(plain, small, precision, images.numpy())
    assert small.stat().st_size < plain.stat().st_size
    assert evaluate.logits(small, images.numpy(), batch_size=3).shape == (3, 5)


@exact_int8
def test_trains_for_int8_and_exports(vit, images, pruned, method, tmp_path):
    """Rounding may choose other tokens in some cases, so the file agrees with the model only approximately."""
    plain, small = tmp_path / "fp32.onnx", tmp_path / "int8.onnx"
    model = pruned(vit(), method)
    fake_quant.prepare(model, [images])
    nn.functional.cross_entropy(model.train()(images), torch.tensor([0, 1, 2])).backward()
    slopes = [layer.stretch.grad for layer in model.modules() if isinstance(layer, fake_quant.QuantizedLinear)]
    assert all(slope is not None and slope.isfinite().all() for slope in slopes)
    with fake_quant.unrounded(model.eval()):
        write_onnx(model, (1, 3, 16, 16), plain)
    quantize.quantize(plain, small, "int8_qat", images.numpy(), fake_quant.learned(model))
    with torch.no_grad():
        expected = model(images)
    actual = torch.tensor(evaluate.logits(small, images.numpy(), batch_size=3))
    assert float((actual - expected).norm()) <= 0.2 * float(expected.norm())


def test_macs_fall_with_the_tokens(vit, images, pruned, method):
    assert macs.count(pruned(vit(), method), images[:1])[0] < 0.85 * macs.count(vit(), images[:1])[0]


@pytest.mark.parametrize("name", ["topk", "evit"])
@pytest.mark.parametrize("pooled", ["avg", "map"])
def test_without_a_class_token_the_mean_query_ranks(vit, images, pruned, name, pooled, tmp_path):
    model = pruned(vit(class_token=False, global_pool=pooled), name)
    assert counts_of(model, images)[-1] < 16
    assert write_onnx(model, (1, 3, 16, 16), tmp_path / "model.onnx").parity_rel <= 1e-4


@pytest.mark.parametrize(
    ("resolved", "message"),
    [
        (replace(PLAN, tokens=(17, 9, 9)), "tokens behind 3 blocks, model of 4"),
        (replace(PLAN, tokens=(17, 9, 10, 10)), "cannot leave 10 of 9 tokens"),
        (replace(PLAN, tokens=(17, 9, 1, 1)), "cannot leave 1 of 9 tokens"),
        (replace(PLAN, token_pruning_method="any"), "unknown token pruning method 'any'"),
    ],
)
def test_a_plan_of_another_model_is_refused(vit, resolved, message):
    with pytest.raises(StageError, match=message):
        tokens.apply(vit(), resolved)
