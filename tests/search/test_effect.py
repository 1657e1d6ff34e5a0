"""What plans come to, and the keys that follow: values here are committed, a change makes every ledger worthless."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.effect import (
    Anatomy,
    BlockAnatomy,
    DataIdentity,
    Effect,
    Scores,
    artifact_key,
    fragile_layers,
    graph_key,
    qat_key,
    resolve,
    weights_key,
)
from vitsearch.plan import Augmentation, Compression, Plan, QuantizationAware
from vitsearch.testing import fake_anatomy

DATA = DataIdentity("cd" * 32, 10, 1)
PLAN = Plan.from_json(json.loads((Path(__file__).parent / "golden" / "plan.json").read_text(encoding="utf-8")))
START, TEACHER = "ef" * 32, "12" * 32


@pytest.fixture
def asked(golden) -> Plan:
    return Plan.from_json(golden("plan"))


@pytest.fixture
def effect(golden) -> Effect:
    return Effect.from_json(golden("effect"))


def key_of_weights(effect, plan, **changed):
    return weights_key(effect, plan, **{"start": START, "teacher": TEACHER, "data": DATA} | changed)


# ---- contracts


@pytest.mark.parametrize(("name", "kind"), [("anatomy", Anatomy), ("scores", Scores), ("effect", Effect)])
def test_the_json_forms_are_the_committed_ones(golden, name, kind):
    assert kind.from_json(golden(name)).to_json() == golden(name)


def test_the_committed_plan_comes_to_the_committed_effect(golden, asked, effect):
    assert resolve(asked, Anatomy.from_json(golden("anatomy")), Scores.from_json(golden("scores"))) == effect


def test_the_keys_are_the_committed_ones(asked, effect):
    weights = key_of_weights(effect, asked)
    graph = graph_key(effect, asked.deployment, DATA, 17)
    assert weights == "63b0c0252211ca74315af655e6071c40b572d259a20d19d8b72856de1d04ec65"
    assert graph == "5a9aa430b2db7191527e09b7fc97b63601d786375007b610c930bffac0bb49b4"
    assert artifact_key(weights, 1, graph, None) == "25fcb84900207df372cb5e015b63cf59d651a17ea6405c831a62a170a300fbaa"


@given(st.floats(0, 0.95), st.sampled_from([1, 4, 8]), st.integers(0, 1000))
def test_the_best_channels_of_the_stream_stay_in_whole_multiples(ratio, multiple, seed):
    draw = random.Random(seed)
    worth = tuple(draw.random() for _ in range(24))
    anatomy = Anatomy("x", 28, 24, 49, (BlockAnatomy("a", 0, 0, 0),))
    plan = replace(PLAN, compression=Compression(embed_pruning_ratio=ratio, width_multiple=multiple))
    effect = resolve(plan, anatomy, Scores(((),), ((),), embed=worth))
    assert Effect.from_json(effect.to_json()) == effect
    assert effect.keeps_all(anatomy) == (not effect.embed)
    kept = effect.embed or tuple(range(24))
    assert len(kept) % multiple == 0
    assert abs(len(kept) - 24 * (1 - ratio)) <= multiple / 2 or len(kept) == multiple
    assert min(worth[c] for c in kept) >= max((worth[c] for c in set(range(24)) - set(kept)), default=0)


def test_what_came_later_enters_the_json_only_where_it_is_on(golden, effect):
    later = {
        "tokens": (40, 40, 30),
        "token_pruning_method": "tome",
        "embed": (0, 2),
        "fp32_layers": ("blocks.0",),
        "weight_sparsity": "2:4",
    }
    assert Effect.from_json(replace(effect, **later).to_json()) == replace(effect, **later)
    assert set(effect.to_json()) & set(later) == set()


# ---- what enters which key


def with_precision(effect, precision):
    return replace(effect, blocks=tuple(replace(block, precision=precision) for block in effect.blocks))


def with_other_indices(effect):
    first = effect.blocks[0]
    moved = replace(first, ffn=tuple(index + 1 for index in first.ffn))
    return replace(effect, blocks=(moved, *effect.blocks[1:]))


def with_fewer_channels(effect):
    first = effect.blocks[0]
    return replace(effect, blocks=(replace(first, ffn=first.ffn[:-1]), *effect.blocks[1:]))


@pytest.mark.parametrize(
    ("change", "weights_change", "graph_changes"),
    [
        (lambda effect: with_precision(effect, "int8_dynamic"), False, True),
        (with_other_indices, True, False),
        (with_fewer_channels, True, True),
        (lambda effect: replace(effect, resolution=14), True, True),
        (lambda effect: replace(effect, tokens=(50, 40, 40)), True, True),
        (lambda effect: replace(effect, token_pruning_method="tome"), True, True),
        (lambda effect: replace(effect, embed=(0, 1)), True, True),
        (lambda effect: replace(effect, weight_sparsity="50%"), True, False),
        (lambda effect: replace(effect, fp32_layers=("blocks.0",)), False, True),
    ],
    ids=[
        *("precision", "indices", "counts", "resolution", "tokens", "method", "embed", "sparsity"),
        "fp32_layers",
    ],
)
def test_what_an_effect_changes(asked, effect, change, weights_change, graph_changes):
    other = change(effect)
    assert (key_of_weights(other, asked) != key_of_weights(effect, asked)) == weights_change
    keys = [graph_key(e, asked.deployment, DATA, 17) for e in (effect, other)]
    assert (keys[0] != keys[1]) == graph_changes


@pytest.mark.parametrize(
    "changed", [{"start": "0" * 64}, {"teacher": "0" * 64}, {"data": replace(DATA, fingerprint="0" * 64)}]
)
def test_weights_depend_on_where_they_come_from(asked, effect, changed):
    assert key_of_weights(effect, asked, **changed) != key_of_weights(effect, asked)


def test_the_seed_and_the_recipe_enter_the_weights_key(asked, effect):
    views = {"augmentation": Augmentation(flip=0.5)}
    for change in ({"seed": 1}, {"lr": 1.0}, {"rungs": (0, 2)}, {"layer_decay": 0.75}, {"frozen_blocks": 1}, views):
        other = replace(asked, recipe=replace(asked.recipe, **change))
        assert key_of_weights(effect, other) != key_of_weights(effect, asked)


def test_how_rung_0_is_made_enters_the_weights_key_of_what_is_cut_alone(asked, effect):
    assert key_of_weights(effect, asked, refit="sequential") != key_of_weights(effect, asked)
    assert key_of_weights(effect, asked, refit=None) == key_of_weights(effect, asked)


def test_without_distillation_the_teacher_does_not_matter(asked, effect):
    plain = replace(asked, distillation="none")
    assert key_of_weights(effect, plain, teacher=None) == key_of_weights(effect, plain)
    assert key_of_weights(effect, plain) != key_of_weights(effect, asked)


@pytest.mark.parametrize("change", [{"runtime": "x"}, {"provider": "x"}, {"options": (("threads", 2),)}])
def test_the_deployment_enters_the_graph_key(asked, effect, change):
    other = replace(asked.deployment, **change)
    assert graph_key(effect, other, DATA, 17) != graph_key(effect, asked.deployment, DATA, 17)


def test_the_device_and_the_data_itself_do_not_enter_the_graph_key(asked, effect):
    before = graph_key(effect, asked.deployment, DATA, 17)
    elsewhere = replace(asked.deployment, device="pi")
    assert graph_key(effect, elsewhere, replace(DATA, fingerprint="0" * 64), 17) == before
    assert graph_key(effect, asked.deployment, DATA, 18) != before
    assert graph_key(effect, asked.deployment, replace(DATA, classes=11), 17) != before


def test_no_path_enters_a_key(asked, effect):
    moved = replace(asked, weights="file:/somewhere/else.safetensors")
    assert key_of_weights(effect, moved) == key_of_weights(effect, asked)


def test_the_rung_and_the_calibration_enter_the_artifact_key():
    keys = {artifact_key("w", rung, "g", calibration) for rung in (0, 1) for calibration in (None, "c")}
    assert len(keys) == 4


# ---- resolve

positive = st.floats(0.01, 100)


@st.composite
def models(draw):
    blocks, rows = [], []
    for number in range(draw(st.integers(1, 4))):
        heads, ffn = draw(st.integers(0, 6)), draw(st.integers(0, 48))
        blocks.append(BlockAnatomy(f"blocks.{number}", heads, 32, ffn))
        rows.append(tuple(tuple(draw(st.lists(positive, min_size=n, max_size=n))) for n in (heads, ffn)))
    scores = Scores(tuple(heads for heads, _ in rows), tuple(ffn for _, ffn in rows))
    return Anatomy("any", 28, 192, 50, tuple(blocks)), scores


ratios = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.95])
multiples = st.sampled_from([1, 4, 8])
scopes = st.sampled_from(["uniform", "global", "isomorphic"])


def cut(plan, model, heads=0.0, ffn=0.0, scope="uniform", multiple=1):
    asked = replace(plan, compression=Compression(heads, ffn, scope=scope, width_multiple=multiple))
    return resolve(asked, *model).blocks


@given(model=models(), heads=ratios, ffn=ratios, scope=scopes, multiple=multiples)
def test_kept_units_ascend_are_unique_and_never_none(plan, model, heads, ffn, scope, multiple):
    anatomy, _ = model
    for block, of in zip(cut(plan, model, heads, ffn, scope, multiple), anatomy.blocks, strict=True):
        for kept, size, least in ((block.heads, of.heads, 1), (block.ffn, of.ffn_width, multiple)):
            assert list(kept) == sorted(set(kept))
            assert set(kept) <= set(range(size))
            assert len(kept) >= min(size, least)
            assert len(kept) == size or len(kept) % least == 0


@given(model=models(), scope=scopes, multiple=multiples)
def test_nothing_asked_nothing_cut(plan, model, scope, multiple):
    anatomy, _ = model
    kept = [(len(block.heads), len(block.ffn)) for block in cut(plan, model, 0.0, 0.0, scope, multiple)]
    assert kept == [(block.heads, block.ffn_width) for block in anatomy.blocks]


@given(model=models(), pair=st.tuples(ratios, ratios).map(sorted), multiple=multiples)
def test_who_asks_for_more_never_keeps_more(plan, model, pair, multiple):
    less, more = (cut(plan, model, ratio, ratio, "uniform", multiple) for ratio in pair)
    for light, heavy in zip(less, more, strict=True):
        assert set(heavy.heads) <= set(light.heads)
        assert set(heavy.ffn) <= set(light.ffn)


@given(model=models(), ratio=ratios, scope=scopes, multiple=multiples)
def test_the_best_units_of_a_block_stay(plan, model, ratio, scope, multiple):
    _, scores = model
    for block, row in zip(cut(plan, model, ratio, ratio, scope, multiple), scores.ffn, strict=True):
        dropped = set(range(len(row))) - set(block.ffn)
        assert not dropped or min(row[i] for i in block.ffn) >= max(row[i] for i in dropped)


@given(model=models(), ratio=ratios, multiple=multiples)
def test_a_global_ranking_cuts_no_more_than_was_asked_and_rounding(plan, model, ratio, multiple):
    anatomy, _ = model
    total = sum(block.ffn_width for block in anatomy.blocks)
    kept = sum(len(block.ffn) for block in cut(plan, model, ffn=ratio, scope="global", multiple=multiple))
    slack = multiple / 2 * len(anatomy.blocks) + 1
    assert kept >= total * (1 - ratio) - slack
    assert kept <= total * (1 - ratio) + slack + multiple * len(anatomy.blocks)  # one multiple stays in each


def test_a_global_ranking_cuts_the_block_that_matters_least(plan):
    anatomy = Anatomy("any", 28, 192, 50, tuple(BlockAnatomy(f"b{i}", 4, 32, 0) for i in range(2)))
    scores = Scores(((1, 1, 1, 97), (25, 25, 25, 25)), ((), ()))
    counts = [len(block.heads) for block in cut(plan, (anatomy, scores), heads=3 / 8, scope="global")]
    assert counts == [1, 4]


def test_of_equal_units_the_first_stay(plan):
    anatomy = Anatomy("any", 28, 192, 50, (BlockAnatomy("b", 4, 32, 0),))
    assert cut(plan, (anatomy, Scores(((1.0,) * 4,), ((),))), heads=0.5)[0].heads == (0, 1)


def test_the_precision_of_the_deployment_is_in_every_block(golden, asked):
    deployment = replace(asked.deployment, precision="int8_dynamic")
    model = Anatomy.from_json(golden("anatomy")), Scores.from_json(golden("scores"))
    blocks = resolve(replace(asked, deployments=(deployment,)), *model).blocks
    assert {block.precision for block in blocks} == {"int8_dynamic"}


# ---- tokens


def with_tokens(plan, depth=4, dropped=(), **asked):
    """The tokens that ``plan`` leaves on 16 patches and a class token, with some blocks dropped."""
    blocks = tuple(BlockAnatomy(f"b{i}", 0 if i in dropped else 1, 32, 0) for i in range(depth))
    scores = Scores(tuple((1.0,) * block.heads for block in blocks), ((),) * depth)
    anatomy = Anatomy("any", 28, 192, 17, blocks, prefix_tokens=1)
    return resolve(replace(plan, compression=Compression(token_pruning_ratio=0.5, **asked)), anatomy, scores)


def test_tokens_are_counted_for_every_block(plan):
    effect = with_tokens(plan, token_pruning_method="topk", token_pruning_at=(1, 2))
    assert (effect.tokens, effect.token_pruning_method) == ((17, 9, 5, 5), "topk")


def test_a_place_behind_a_dropped_block_moves_to_the_next(plan):
    effect = with_tokens(plan, 5, dropped=(1,), token_pruning_method="topk", token_pruning_at=(1, 3))
    assert effect.tokens == (17, 17, 9, 5, 5)


def test_the_places_of_a_method_are_those_of_the_blocks_that_stay(plan):
    whole = with_tokens(plan, 4, token_pruning_method="tome").tokens
    assert with_tokens(plan, 6, dropped=(0, 3), token_pruning_method="tome").tokens == (17, *whole[:2], *whole[1:])


def test_where_no_token_goes_the_method_does_not_matter(plan):
    effects = {with_tokens(plan, 1, token_pruning_method=method) for method in ("topk", "tome")}
    assert {(effect.tokens, effect.token_pruning_method) for effect in effects} == {((), None)}


def test_tokens_enter_both_keys(plan):
    few, other = (with_tokens(plan, token_pruning_method=method) for method in ("topk", "dynamicvit"))
    none = replace(few, tokens=(), token_pruning_method=None)
    for key in (lambda e: key_of_weights(e, plan), lambda e: graph_key(e, plan.deployment, DATA, 17)):
        assert len({key(effect) for effect in (few, other, none)}) == 3


def test_a_training_for_int8_is_named_by_where_it_starts_and_how_it_goes_on():
    settings = QuantizationAware()
    key = qat_key("w", 1, settings, "c")
    others = [
        qat_key("v", 1, settings, "c"),
        qat_key("w", 2, settings, "c"),
        qat_key("w", 1, replace(settings, lr_share=0.1), "c"),
        qat_key("w", 1, settings, "d"),
    ]
    assert len({key, *others}) == 5
    assert key == qat_key("w", 1, QuantizationAware(1.0, 1.0), "c")


def test_a_mixed_precision_leaves_the_layers_in_fp32_that_do_half_of_the_damage():
    damage = {"a": 0.1, "b": 5.0, "c": 0.1, "d": 0.1, "e": 4.0, "f": 0.1, "g": 0.1, "h": 0.1}
    assert fragile_layers(damage) == ("b",)
    assert fragile_layers(damage | {"b": 4.5, "e": 4.4}) == ("b", "e")


def test_never_more_than_a_quarter_of_the_layers_stays_in_fp32():
    assert fragile_layers(dict.fromkeys("abcdefgh", 1.0)) == ("a", "b")
    assert fragile_layers({"a": 1.0, "b": 1.0}) == ()
    assert fragile_layers(dict.fromkeys("abcdefgh", 0.0)) == ()


def test_layers_in_fp32_are_another_graph_of_the_same_training(plan):
    anatomy, scores = fake_anatomy()
    plain = resolve(plan, anatomy, scores)
    mixed = resolve(plan, anatomy, scores, {name: float(name == "a") for name in "abcdefgh"})
    assert mixed.fp32_layers == ("a",)
    assert Effect.from_json(mixed.to_json()) == mixed
    keys = [graph_key(effect, plan.deployment, DATA, 17) for effect in (plain, mixed)]
    assert keys[0] != keys[1]
    assert key_of_weights(plain, plan) == key_of_weights(mixed, plan)


# ---- whole blocks, and blocks of one shape


def small(*blocks, depth=()):
    """An anatomy of (heads, width, removable) and scores that rise within each block, from its number on."""
    named = tuple(
        BlockAnatomy(str(i), heads, 8, width, removable) for i, (heads, width, removable) in enumerate(blocks)
    )
    heads, ffn = (
        tuple(tuple(float(i + 1) * (unit + 1) for unit in range(block[part])) for i, block in enumerate(blocks))
        for part in (0, 1)
    )
    return Anatomy("x", 28, 8, 49, named), Scores(heads, ffn, depth)


def resolved(asked, anatomy, scores, **cut):
    plan = replace(asked, compression=Compression(width_multiple=1, **cut))
    return resolve(plan, anatomy, scores).blocks


def counts(blocks):
    return [(len(block.heads), len(block.ffn)) for block in blocks]


@pytest.mark.parametrize(
    ("ratio", "gone"), [(0.0, []), (0.1, []), (0.34, [2]), (0.67, [0, 2]), (0.95, [0, 2])], ids=str
)
def test_the_least_important_removable_blocks_go_and_one_stays(asked, ratio, gone):
    anatomy, scores = small((2, 4, True), (2, 4, False), (2, 4, True), (2, 4, True), depth=(2.0, 0.0, 1.0, 3.0))
    blocks = resolved(asked, anatomy, scores, depth_pruning_ratio=ratio)
    assert [index for index, (heads, ffn) in enumerate(counts(blocks)) if not heads and not ffn] == gone
    assert [pair for index, pair in enumerate(counts(blocks)) if index not in gone] == [(2, 4)] * (4 - len(gone))


@pytest.mark.parametrize("scope", ["uniform", "global", "isomorphic"])
def test_heads_and_channels_are_counted_over_the_blocks_that_stay(asked, scope):
    anatomy, scores = small((4, 8, True), (4, 8, True), depth=(1.0, 0.0))
    cut = {"depth_pruning_ratio": 0.5, "head_pruning_ratio": 0.5, "ffn_pruning_ratio": 0.5, "scope": scope}
    assert counts(resolved(asked, anatomy, scores, **cut)) == [(2, 4), (0, 0)]


def test_isomorphic_ranks_within_blocks_of_one_shape(asked):
    """The scores of the last block, of another shape, are the highest of all; it loses its share alike."""
    anatomy, scores = small((4, 8, False), (4, 8, False), (2, 16, False))
    isomorphic, overall = (
        counts(resolved(asked, anatomy, scores, ffn_pruning_ratio=0.5, scope=scope))
        for scope in ("isomorphic", "global")
    )
    assert [ffn for _, ffn in isomorphic] == [2, 6, 8]
    assert overall != isomorphic


@given(st.floats(0, 0.95), st.integers(0, 1000))
def test_isomorphic_takes_the_ratio_from_each_group(ratio, seed):
    draw = random.Random(seed)
    widths = [draw.choice((8, 16)) for _ in range(5)]
    scores = Scores(((),) * 5, tuple(tuple(draw.random() for _ in range(width)) for width in widths))
    anatomy = Anatomy("x", 28, 8, 49, tuple(BlockAnatomy(str(i), 0, 0, width) for i, width in enumerate(widths)))
    plan = replace(PLAN, compression=Compression(ffn_pruning_ratio=ratio, scope="isomorphic", width_multiple=1))
    kept = [len(block.ffn) for block in resolve(plan, anatomy, scores).blocks]
    for width in set(widths):
        total = width * widths.count(width)
        left = sum(count for count, other in zip(kept, widths, strict=True) if other == width)
        assert total - round(total * ratio) <= left <= total - round(total * ratio) + widths.count(width)


def test_what_came_later_enters_anatomy_and_scores_only_where_it_is_on(golden):
    block = BlockAnatomy("a", 2, 8, 4)
    assert "removable" not in block.to_json()
    assert Scores((), ()).to_json().keys() == {"heads", "ffn"}
    anatomy, scores = small((2, 4, True), depth=(1.0,))
    scores = replace(scores, embed=(2.0, 1.0))
    assert Anatomy.from_json(anatomy.to_json()) == anatomy
    assert Scores.from_json(scores.to_json()) == scores
