"""What a plan comes to on one backbone: pure arithmetic, no torch, run in the driver.

``resolve(plan, anatomy, scores)`` turns ratios into the indices that each block keeps. Two plans
with the same effect are one plan. Four keys (sha256 of canonical JSON) name what follows from it:

    weights_key    indices, starting weights, data, teacher, recipe, seed      trainings and rungs
    qat_key        a training and its rung, settings, calibration              trainings for static int8
    graph_key      counts, resolution, precision, runtime, options, opset      measurements
    artifact_key   both, and the calibration                                   artifacts, accuracies

No key holds a path or a library version; contents enter as digests. ``SCHEMA`` is raised by hand
when the meaning of a key changes. Golden values: ``tests/search/test_effect.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vitsearch.plan import Compression, Deployment, Plan, QuantizationAware
from vitsearch.token_counts import tokens_left
from vitsearch_evaluators.base.canonical_json import digest

SCHEMA = 1


@dataclass(frozen=True)
class BlockAnatomy:
    """One transformer block: how many heads of which width, how wide its FFN; 0 where not cut.
    ``removable``: it adds to a stream of the same shape, so the model works without it."""

    name: str
    heads: int
    head_dim: int
    ffn_width: int
    removable: bool = False

    def to_json(self) -> dict[str, Any]:
        return without(asdict(self), {"removable": False})


@dataclass(frozen=True)
class Anatomy:
    """What of a backbone may be cut. ``tokens`` counts the ``prefix_tokens`` too. ``window_size`` None:
    the family's own at this resolution."""

    backbone: str
    resolution: int
    embed_dim: int
    tokens: int
    blocks: tuple[BlockAnatomy, ...]
    window_size: int | None = None
    prefix_tokens: int = 0

    def to_json(self) -> dict[str, Any]:
        """What came after the first release is left out where it is off: keys of old ledgers stay."""
        value = asdict(self) | {"blocks": [block.to_json() for block in self.blocks]}
        return without(value, {"window_size": None, "prefix_tokens": 0})

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Anatomy:
        return cls(**value | {"blocks": tuple(BlockAnatomy(**block) for block in value["blocks"])})


@dataclass(frozen=True)
class Scores:
    """Importance of each head and each FFN neuron, per block, of whole blocks (``depth``) and of each channel of
    the residual stream (``embed``); larger is more important."""

    heads: tuple[tuple[float, ...], ...]
    ffn: tuple[tuple[float, ...], ...]
    depth: tuple[float, ...] = ()
    embed: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        units = {"heads": [list(row) for row in self.heads], "ffn": [list(row) for row in self.ffn]}
        return units | without({"depth": list(self.depth), "embed": list(self.embed)}, {"depth": [], "embed": []})

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Scores:
        units = tuple(map(tuple, value["heads"])), tuple(map(tuple, value["ffn"]))
        return cls(*units, tuple(value.get("depth", ())), tuple(value.get("embed", ())))


@dataclass(frozen=True)
class BlockEffect:
    """Indices kept in one block, ascending; ``precision`` of its linear layers. A block that has heads
    or neurons and keeps none of either is dropped whole."""

    heads: tuple[int, ...]
    ffn: tuple[int, ...]
    precision: str


@dataclass(frozen=True)
class Effect:
    """``tokens`` are those that leave each block, prefix tokens included (none named: all of them);
    ``embed`` the channels of the residual stream that stay (none named: all); ``fp32_layers`` the
    units that a mixed precision leaves in fp32."""

    backbone: str
    resolution: int
    window_size: int | None
    blocks: tuple[BlockEffect, ...]
    tokens: tuple[int, ...] = ()
    token_pruning_method: str | None = None
    embed: tuple[int, ...] = ()
    fp32_layers: tuple[str, ...] = ()
    weight_sparsity: str = "none"

    def keeps_all(self, anatomy: Anatomy) -> bool:
        """Whether nothing of ``anatomy`` is cut, tokens included."""
        if self.tokens or self.embed:
            return False
        pairs = zip(self.blocks, anatomy.blocks, strict=True)
        return all((len(kept.heads), len(kept.ffn)) == (block.heads, block.ffn_width) for kept, block in pairs)

    def structure(self) -> dict[str, Any]:
        """Which indices are kept: decides what the weights can become."""
        named = {
            "backbone": self.backbone,
            "resolution": self.resolution,
            "window_size": self.window_size,
            "blocks": [{"heads": list(b.heads), "ffn": list(b.ffn)} for b in self.blocks],
        }
        return named | self._later("tokens", "token_pruning_method", "embed", "weight_sparsity")

    def shape(self) -> dict[str, Any]:
        """How many are kept: decides what the graph costs."""
        blocks = [{"heads": len(b.heads), "ffn": len(b.ffn), "precision": b.precision} for b in self.blocks]
        counted = {"embed": len(self.embed)} if self.embed else {}
        kept = self.structure() | {"blocks": blocks} | counted | self._later("fp32_layers")
        return without(kept, {"weight_sparsity": self.weight_sparsity})  # zeros cost what other weights cost

    def to_json(self) -> dict[str, Any]:
        blocks = [{"heads": list(b.heads), "ffn": list(b.ffn), "precision": b.precision} for b in self.blocks]
        return self.structure() | {"blocks": blocks} | self._later("fp32_layers")

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Effect:
        blocks = (BlockEffect(tuple(b["heads"]), tuple(b["ffn"]), b["precision"]) for b in value["blocks"])
        listed: dict[str, Any] = {
            name: tuple(value[name]) for name in ("tokens", "embed", "fp32_layers") if name in value
        }
        return cls(**value | listed | {"blocks": tuple(blocks)})

    def _later(self, *names: str) -> dict[str, Any]:
        """What came after the first release, left out where it is off: keys of old ledgers stay."""
        values = {name: getattr(self, name) for name in names}
        listed = {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}
        return without(listed, {name: off for name, off in _OFF.items() if name in names})


_OFF: dict[str, Any] = {
    "tokens": [],
    "token_pruning_method": None,
    "embed": [],
    "fp32_layers": [],
    "weight_sparsity": "none",
}


def without(value: dict[str, Any], off: dict[str, Any]) -> dict[str, Any]:
    """``value`` less the entries that are as ``off`` has them."""
    return {name: part for name, part in value.items() if name not in off or part != off[name]}


MIXED_SHARE, MIXED_LAYERS = 0.5, 0.25
"""A mixed precision leaves the worst layers in fp32 until these do no more than this share of all damage,
but never more than this share of the layers."""


def fragile_layers(damage: Mapping[str, float]) -> tuple[str, ...]:
    """The layers that a mixed precision leaves in fp32, of the damage that rounding each alone does; sorted."""
    worst = sorted(damage, key=lambda name: (-damage[name], name))[: int(len(damage) * MIXED_LAYERS)]
    left, wanted = sum(damage.values()), sum(damage.values()) * MIXED_SHARE
    chosen: list[str] = []
    for name in worst:
        if left <= wanted:
            break
        chosen.append(name)
        left -= damage[name]
    return tuple(sorted(chosen))


def resolve(plan: Plan, anatomy: Anatomy, scores: Scores, damage: Mapping[str, float] | None = None) -> Effect:
    """The indices that ``plan`` keeps. At least one head and ``width_multiple`` channels stay of a block
    that is not dropped, ``width_multiple`` channels of the stream, and at least one of the blocks that could go.

    ``damage`` of rounding each layer alone decides which a mixed precision leaves in fp32.

    ``uniform`` takes the same share from each block; ``global`` ranks all units of the backbone
    together after dividing each block's scores by their mean; ``isomorphic`` ranks the units of blocks
    of the same shape together, by their scores as they are (Fang et al. 2024, "Isomorphic pruning").
    """
    cut = plan.compression
    dropped = _dropped(cut, anatomy, scores)
    shapes = [_GONE if index in dropped else block for index, block in enumerate(anatomy.blocks)]
    heads = _kept(cut, cut.head_pruning_ratio, _Units(shapes, [it.heads for it in shapes], scores.heads))
    ffn = _kept(
        cut, cut.ffn_pruning_ratio, _Units(shapes, [it.ffn_width for it in shapes], scores.ffn, cut.width_multiple)
    )
    precision = plan.deployment.precision
    blocks = tuple(BlockEffect(h, f, precision) for h, f in zip(heads, ffn, strict=True))
    tokens = _tokens(cut, anatomy, blocks)
    method = cut.token_pruning_method if tokens else None
    fp32_layers = fragile_layers(damage or {})
    return Effect(
        plan.backbone,
        plan.resolution,
        plan.window_size,
        blocks,
        tokens,
        method,
        _embed(cut, scores),
        fp32_layers=fp32_layers,
        weight_sparsity=cut.weight_sparsity,
    )


def _embed(cut: Compression, scores: Scores) -> tuple[int, ...]:
    """Named only where some go."""
    width = len(scores.embed)
    count = _rounded(width * (1.0 - cut.embed_pruning_ratio), width, cut.width_multiple)
    return _top(scores.embed, count) if count < width else ()


def _tokens(cut: Compression, anatomy: Anatomy, blocks: tuple[BlockEffect, ...]) -> tuple[int, ...]:
    """Counted over the blocks that stay: a place behind one that is dropped moves to the next."""
    if not cut.token_pruning_ratio or cut.token_pruning_method is None:
        return ()
    staying = [index for index, block in enumerate(blocks) if block.heads or block.ffn]
    places = {sum(index < place for index in staying) for place in cut.token_pruning_at}
    patches, prefix = anatomy.tokens - anatomy.prefix_tokens, anatomy.prefix_tokens
    left = tokens_left(
        cut.token_pruning_method, cut.token_pruning_ratio, tuple(sorted(places)), len(staying), patches, prefix
    )
    if not left:
        return ()
    behind = [sum(index <= block for index in staying) for block in range(len(blocks))]
    return tuple(left[count - 1] if count else anatomy.tokens for count in behind)


@dataclass(frozen=True)
class _Units:
    """Heads or neurons of all blocks: ``sizes`` and ``scores`` of each block, counts in steps of ``multiple``."""

    shapes: list[BlockAnatomy]
    sizes: list[int]
    scores: tuple[tuple[float, ...], ...]
    multiple: int = 1


_GONE = BlockAnatomy("dropped", 0, 0, 0)


def _dropped(cut: Compression, anatomy: Anatomy, scores: Scores) -> frozenset[int]:
    """The least important of the blocks that can be: the ratio is of their number."""
    if not cut.depth_pruning_ratio:
        return frozenset()
    removable = [index for index, block in enumerate(anatomy.blocks) if block.removable]
    count = min(round(len(removable) * cut.depth_pruning_ratio), len(removable) - 1)
    return frozenset(sorted(removable, key=lambda index: (scores.depth[index], index))[: max(0, count)])


def _kept(cut: Compression, ratio: float, units: _Units) -> list[tuple[int, ...]]:
    if cut.scope == "uniform" or not ratio:
        wanted = [size * (1.0 - ratio) for size in units.sizes]
    elif cut.scope == "global":
        wanted = _ranked_together(ratio, units, [0] * len(units.sizes), _over_mean)
    else:
        wanted = _ranked_together(ratio, units, [(it.heads, it.head_dim, it.ffn_width) for it in units.shapes], list)
    counts = [_rounded(count, size, units.multiple) for count, size in zip(wanted, units.sizes, strict=True)]
    return [_top(row, count) for row, count in zip(units.scores, counts, strict=True)]


def _ranked_together(
    ratio: float, units: _Units, groups: Sequence[Hashable], weigh: Callable[[Sequence[float]], list[float]]
) -> list[float]:
    """How many each block keeps when ``ratio`` of the units of each group of blocks goes, the lowest first."""
    kept = [float(size) for size in units.sizes]
    for group in set(groups):
        members = [index for index, other in enumerate(groups) if other == group and units.sizes[index]]
        ranked = sorted((score, index) for index in members for score in weigh(units.scores[index]))
        for _, index in ranked[: round(len(ranked) * ratio)]:
            kept[index] -= 1
    return kept


def _over_mean(row: Sequence[float]) -> list[float]:
    mean = sum(row) / len(row) or 1.0
    return [score / mean for score in row]


def _rounded(count: float, size: int, multiple: int) -> int:
    """``count`` to the nearest multiple, at least one multiple, never above ``size``; 0 stays 0."""
    if size == 0 or count >= size:
        return size
    return min(size, max(multiple, round(count / multiple) * multiple))


def _top(row: tuple[float, ...], count: int) -> tuple[int, ...]:
    best = sorted(range(len(row)), key=lambda index: (-row[index], index))
    return tuple(sorted(best[:count]))


@dataclass(frozen=True)
class DataIdentity:
    """The part of a data set that keys depend on."""

    fingerprint: str
    classes: int
    channels: int


def weights_key(
    effect: Effect, plan: Plan, start: str, teacher: str | None, data: DataIdentity, refit: str | None = None
) -> str:
    """Names a training. ``start`` and ``teacher`` are digests of weights; precision does not enter.

    ``refit`` names how rung 0 is made of a model that is cut; it is left out where nothing is, so that
    what older ledgers hold of unpruned models is found.
    """
    cut = {} if refit is None else {"refit": refit}
    return digest(
        cut
        | {
            "schema": SCHEMA,
            "key": "weights",
            "structure": effect.structure(),
            "start": start,
            "teacher": teacher if plan.distillation != "none" else None,
            "distillation": plan.distillation,
            "recipe": asdict(plan.recipe),
            "data": asdict(data),
        }
    )


def qat_key(weights: str, rung: int, settings: QuantizationAware, calibration: str) -> str:
    """Names a training with rounding in place, from the float training ``weights`` at ``rung``; ``calibration``
    is the digest of the images that its ranges start from. Shared by all deployments that want it."""
    return digest(
        {
            "schema": SCHEMA,
            "key": "qat",
            "weights": weights,
            "rung": rung,
            "settings": asdict(settings),
            "calibration": calibration,
        }
    )


def graph_key(effect: Effect, deployment: Deployment, data: DataIdentity, opset: int) -> str:
    """Names a measurement: the same graph costs the same whatever its weights are."""
    return digest(
        {
            "schema": SCHEMA,
            "key": "graph",
            "shape": effect.shape(),
            "classes": data.classes,
            "channels": data.channels,
            "runtime": deployment.runtime,
            "provider": deployment.provider,
            "options": dict(deployment.options),
            "opset": opset,
        }
    )


def artifact_key(weights: str, rung: int, graph: str, calibration: str | None) -> str:
    """Names an exported file: trained weights, graph and, for static int8, the calibration digest."""
    return digest(
        {
            "schema": SCHEMA,
            "key": "artifact",
            "weights": weights,
            "rung": rung,
            "graph": graph,
            "calibration": calibration,
        }
    )
