"""Resolved plans; their JSON form is committed."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import GOLDEN
from vitsearch.core.image_size import ImageSize
from vitsearch.core.keys import DataIdentity
from vitsearch.core.plan import Compression, Plan
from vitsearch.core.resolve import BlockShape, BlockStructure, ResolvedPlan, Scores, resolve, sensitive_layers
from vitsearch.testing.fakes import fake_block_structure

DATA = DataIdentity("cd" * 32, 10, 1)
PLAN = Plan.from_json(json.loads(Path(GOLDEN, "plan.json").read_text(encoding="utf-8")))
START, TEACHER = "ef" * 32, "12" * 32


@pytest.fixture
def committed(golden) -> Plan:
    return Plan.from_json(golden("plan"))


@pytest.fixture
def resolved(golden) -> ResolvedPlan:
    return ResolvedPlan.from_json(golden("resolved_plan"))


# ---- contracts


@pytest.mark.parametrize(
    ("name", "kind"), [("block_structure", BlockStructure), ("scores", Scores), ("resolved_plan", ResolvedPlan)]
)
def test_json_forms_equal_the_committed_ones(golden, name, kind):
    assert kind.from_json(golden(name)).to_json() == golden(name)


def test_the_committed_plan_resolves_to_the_committed_one(golden, committed, resolved):
    assert (
        resolve(committed, BlockStructure.from_json(golden("block_structure")), Scores.from_json(golden("scores")))
        == resolved
    )


@given(st.floats(0, 0.95), st.sampled_from([1, 4, 8]), st.integers(0, 1000))
def test_the_best_stream_channels_stay_in_multiples(ratio, multiple, seed):
    draw = random.Random(seed)
    worth = tuple(draw.random() for _ in range(24))
    block_structure = BlockStructure("x", ImageSize.square(28), 24, 49, (BlockShape("a", 0, 0, 0),))
    plan = replace(PLAN, compression=Compression(embed_pruning_ratio=ratio, width_multiple=multiple))
    resolved = resolve(plan, block_structure, Scores(((),), ((),), embed=worth))
    assert ResolvedPlan.from_json(resolved.to_json()) == resolved
    assert resolved.keeps_all(block_structure) == (not resolved.embed)
    kept = resolved.embed or tuple(range(24))
    assert len(kept) % multiple == 0
    assert abs(len(kept) - 24 * (1 - ratio)) <= multiple / 2 or len(kept) == multiple
    assert min(worth[c] for c in kept) >= max((worth[c] for c in set(range(24)) - set(kept)), default=0)


# ---- resolve

positive = st.floats(0.01, 100)


@st.composite
def models(draw):
    blocks, rows = [], []
    for number in range(draw(st.integers(1, 4))):
        heads, ffn = draw(st.integers(0, 6)), draw(st.integers(0, 48))
        blocks.append(BlockShape(f"blocks.{number}", heads, 32, ffn))
        rows.append(tuple(tuple(draw(st.lists(positive, min_size=n, max_size=n))) for n in (heads, ffn)))
    scores = Scores(tuple(heads for heads, _ in rows), tuple(ffn for _, ffn in rows))
    return BlockStructure("any", ImageSize.square(28), 192, 50, tuple(blocks)), scores


ratios = st.sampled_from([0.0, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.95])
multiples = st.sampled_from([1, 4, 8])
scopes = st.sampled_from(["uniform", "global", "isomorphic"])


def cut(plan, model, heads=0.0, ffn=0.0, scope="uniform", multiple=1):
    smaller = replace(plan, compression=Compression(heads, ffn, scope=scope, width_multiple=multiple))
    return resolve(smaller, *model).blocks


@given(model=models(), heads=ratios, ffn=ratios, scope=scopes, multiple=multiples)
def test_kept_units_ascend_and_are_never_empty(plan, model, heads, ffn, scope, multiple):
    block_structure, _ = model
    for block, of in zip(cut(plan, model, heads, ffn, scope, multiple), block_structure.blocks, strict=True):
        for kept, size, least in ((block.heads, of.heads, 1), (block.ffn, of.ffn_width, multiple)):
            assert list(kept) == sorted(set(kept))
            assert set(kept) <= set(range(size))
            assert len(kept) >= min(size, least)
            assert len(kept) == size or len(kept) % least == 0


@given(model=models(), scope=scopes, multiple=multiples)
def test_a_ratio_of_0_prunes_nothing(plan, model, scope, multiple):
    block_structure, _ = model
    kept = [(len(block.heads), len(block.ffn)) for block in cut(plan, model, 0.0, 0.0, scope, multiple)]
    assert kept == [(block.heads, block.ffn_width) for block in block_structure.blocks]


@given(model=models(), pair=st.tuples(ratios, ratios).map(sorted), multiple=multiples)
def test_a_higher_ratio_never_keeps_more(plan, model, pair, multiple):
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
def test_global_ranking_prunes_at_most_the_ratio_and_rounding(plan, model, ratio, multiple):
    block_structure, _ = model
    total = sum(block.ffn_width for block in block_structure.blocks)
    kept = sum(len(block.ffn) for block in cut(plan, model, ffn=ratio, scope="global", multiple=multiple))
    slack = multiple / 2 * len(block_structure.blocks) + 1
    assert kept >= total * (1 - ratio) - slack
    assert kept <= total * (1 - ratio) + slack + multiple * len(block_structure.blocks)  # one multiple stays in each


def test_global_ranking_prunes_the_least_important_block(plan):
    block_structure = BlockStructure(
        "any", ImageSize.square(28), 192, 50, tuple(BlockShape(f"b{i}", 4, 32, 0) for i in range(2))
    )
    scores = Scores(((1, 1, 1, 97), (25, 25, 25, 25)), ((), ()))
    counts = [len(block.heads) for block in cut(plan, (block_structure, scores), heads=3 / 8, scope="global")]
    assert counts == [1, 4]


def test_the_first_of_equal_units_stay(plan):
    block_structure = BlockStructure("any", ImageSize.square(28), 192, 50, (BlockShape("b", 4, 32, 0),))
    assert cut(plan, (block_structure, Scores(((1.0,) * 4,), ((),))), heads=0.5)[0].heads == (0, 1)


def test_the_precision_is_that_of_the_deployment(golden, committed):
    deployment = replace(committed.deployment, precision="int8_dynamic")
    model = BlockStructure.from_json(golden("block_structure")), Scores.from_json(golden("scores"))
    assert resolve(replace(committed, deployments=(deployment,)), *model).precision == "int8_dynamic"


# ---- tokens


def with_tokens(plan, depth=4, dropped=(), **changes):
    """The tokens after each block for 16 patches and a class token, with some blocks removed."""
    blocks = tuple(BlockShape(f"b{i}", 0 if i in dropped else 1, 32, 0) for i in range(depth))
    scores = Scores(tuple((1.0,) * block.heads for block in blocks), ((),) * depth)
    block_structure = BlockStructure("any", ImageSize.square(28), 192, 17, blocks, prefix_tokens=1)
    return resolve(replace(plan, compression=Compression(token_pruning_ratio=0.5, **changes)), block_structure, scores)


def test_tokens_are_given_for_every_block(plan):
    resolved = with_tokens(plan, token_pruning_method="topk", token_pruning_at=(1, 2))
    assert (resolved.tokens, resolved.token_pruning_method) == ((17, 9, 5, 5), "topk")


def test_a_position_at_a_removed_block_moves_to_the_next(plan):
    resolved = with_tokens(plan, 5, dropped=(1,), token_pruning_method="topk", token_pruning_at=(1, 3))
    assert resolved.tokens == (17, 17, 9, 5, 5)


@pytest.mark.parametrize(("at", "tokens"), [((3,), ()), ((1, 3), (17, 9, 9, 9, 9))])
def test_no_token_is_dropped_behind_what_has_become_the_last_block(plan, at, tokens):
    resolved = with_tokens(plan, 5, dropped=(3, 4), token_pruning_method="dynamicvit", token_pruning_at=at)
    assert (resolved.tokens, resolved.token_pruning_method) == (tokens, "dynamicvit" if tokens else None)


def test_default_positions_count_over_the_blocks_that_stay(plan):
    whole = with_tokens(plan, 4, token_pruning_method="tome").tokens
    assert with_tokens(plan, 6, dropped=(0, 3), token_pruning_method="tome").tokens == (17, *whole[:2], *whole[1:])


def test_without_dropped_tokens_the_method_is_ignored(plan):
    resolved_plans = {with_tokens(plan, 1, token_pruning_method=method) for method in ("topk", "tome")}
    assert {(resolved.tokens, resolved.token_pruning_method) for resolved in resolved_plans} == {((), None)}


def test_mixed_precision_keeps_the_most_sensitive_layers_in_fp32():
    sensitivity = {"a": 0.1, "b": 5.0, "c": 0.1, "d": 0.1, "e": 4.0, "f": 0.1, "g": 0.1, "h": 0.1}
    assert sensitive_layers(sensitivity) == ("b",)
    assert sensitive_layers(sensitivity | {"b": 4.5, "e": 4.4}) == ("b", "e")


def test_at_most_a_quarter_of_the_layers_stays_in_fp32():
    assert sensitive_layers(dict.fromkeys("abcdefgh", 1.0)) == ("a", "b")
    assert sensitive_layers({"a": 1.0, "b": 1.0}) == ()
    assert sensitive_layers(dict.fromkeys("abcdefgh", 0.0)) == ()


def test_fp32_layers_change_only_the_graph(plan):
    block_structure, scores = fake_block_structure()
    plain = resolve(plan, block_structure, scores)
    mixed = resolve(plan, block_structure, scores, {name: float(name == "a") for name in "abcdefgh"})
    assert mixed.fp32_layers == ("a",)
    assert ResolvedPlan.from_json(mixed.to_json()) == mixed
    assert mixed == replace(plain, fp32_layers=("a",))


# ---- whole blocks, and blocks of one shape


def small(*blocks, depth=()):
    """A block structure of (heads, width, removable), and scores that rise within each block and with its number."""
    named = tuple(BlockShape(str(i), heads, 8, width, removable) for i, (heads, width, removable) in enumerate(blocks))
    heads, ffn = (
        tuple(tuple(float(i + 1) * (unit + 1) for unit in range(block[part])) for i, block in enumerate(blocks))
        for part in (0, 1)
    )
    return BlockStructure("x", ImageSize.square(28), 8, 49, named), Scores(heads, ffn, depth)


def resolve_with(committed, block_structure, scores, **cut):
    plan = replace(committed, compression=Compression(width_multiple=1, **cut))
    return resolve(plan, block_structure, scores).blocks


def counts(blocks):
    return [(len(block.heads), len(block.ffn)) for block in blocks]


@pytest.mark.parametrize(
    ("ratio", "gone"), [(0.0, []), (0.1, []), (0.34, [2]), (0.67, [0, 2]), (0.95, [0, 2])], ids=str
)
def test_the_least_important_removable_blocks_are_removed_and_one_stays(committed, ratio, gone):
    block_structure, scores = small((2, 4, True), (2, 4, False), (2, 4, True), (2, 4, True), depth=(2.0, 0.0, 1.0, 3.0))
    blocks = resolve_with(committed, block_structure, scores, depth_pruning_ratio=ratio)
    assert [index for index, (heads, ffn) in enumerate(counts(blocks)) if not heads and not ffn] == gone
    assert [pair for index, pair in enumerate(counts(blocks)) if index not in gone] == [(2, 4)] * (4 - len(gone))


@pytest.mark.parametrize("scope", ["uniform", "global", "isomorphic"])
def test_heads_and_channels_are_counted_over_the_blocks_that_stay(committed, scope):
    block_structure, scores = small((4, 8, True), (4, 8, True), depth=(1.0, 0.0))
    cut = {"depth_pruning_ratio": 0.5, "head_pruning_ratio": 0.5, "ffn_pruning_ratio": 0.5, "scope": scope}
    assert counts(resolve_with(committed, block_structure, scores, **cut)) == [(2, 4), (0, 0)]


def test_isomorphic_ranks_within_blocks_of_one_shape(committed):
    """The last block has another shape and the highest scores, but loses the same share."""
    block_structure, scores = small((4, 8, False), (4, 8, False), (2, 16, False))
    isomorphic, overall = (
        counts(resolve_with(committed, block_structure, scores, ffn_pruning_ratio=0.5, scope=scope))
        for scope in ("isomorphic", "global")
    )
    assert [ffn for _, ffn in isomorphic] == [2, 6, 8]
    assert overall != isomorphic


@given(st.floats(0, 0.95), st.integers(0, 1000))
def test_isomorphic_takes_the_ratio_from_each_group(ratio, seed):
    draw = random.Random(seed)
    widths = [draw.choice((8, 16)) for _ in range(5)]
    scores = Scores(((),) * 5, tuple(tuple(draw.random() for _ in range(width)) for width in widths))
    block_structure = BlockStructure(
        "x", ImageSize.square(28), 8, 49, tuple(BlockShape(str(i), 0, 0, width) for i, width in enumerate(widths))
    )
    plan = replace(PLAN, compression=Compression(ffn_pruning_ratio=ratio, scope="isomorphic", width_multiple=1))
    kept = [len(block.ffn) for block in resolve(plan, block_structure, scores).blocks]
    for width in set(widths):
        total = width * widths.count(width)
        left = sum(count for count, other in zip(kept, widths, strict=True) if other == width)
        assert total - round(total * ratio) <= left <= total - round(total * ratio) + widths.count(width)


def test_json_round_trip_of_block_structure_and_scores():
    block_structure, scores = small((2, 4, True), depth=(1.0,))
    scores = replace(scores, embed=(2.0, 1.0))
    assert BlockStructure.from_json(block_structure.to_json()) == block_structure
    assert Scores.from_json(scores.to_json()) == scores
