"""Resolution of a plan on one backbone: pure arithmetic without torch, run in the driver.

`resolve(plan, block_structure, scores)` turns ratios into the indices that each block keeps. Two plans with the same
resolved plan are duplicates; `vitsearch.core.keys` makes the keys of its results.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Plan
from vitsearch.core.precisions import graph_precision, is_versioned
from vitsearch.core.token_counts import tokens_left


@dataclass(frozen=True)
class BlockShape:
    """The dimensions of one transformer block; 0 for a part that cannot be pruned.

    Attributes:
        name: The path of its module in the model.
        heads: The number of attention heads.
        head_dim: Columns of the output projection that belong to one head.
        ffn_width: Hidden channels of the FFN.
        removable: Whether it adds to a stream of the same shape, so that the model works without it.
        ffn_grain: Hidden channels that a grouped convolution holds together; `ffn_width` counts groups of so many.
    """

    name: str
    heads: int
    head_dim: int
    ffn_width: int
    removable: bool = False
    ffn_grain: int = 1


@dataclass(frozen=True)
class BlockStructure:
    """The parts of a backbone that can be pruned.

    Attributes:
        backbone: Its name.
        resolution: The size of the images.
        embed_dim: Channels of the last stage.
        tokens: Tokens that the first attention sees, prefix tokens included; 0 without attention.
        blocks: The blocks, in the order of `Backbone.units`.
        window_size: The side of the windows, in tokens; None for the family's own window at this resolution.
        prefix_tokens: Tokens in front of the patches: class, distillation, registers.
        structure_digest: Names the found structure that the blocks belong to; empty if a family declares them.
    """

    backbone: str
    resolution: ImageSize
    embed_dim: int
    tokens: int
    blocks: tuple[BlockShape, ...]
    window_size: int | None = None
    prefix_tokens: int = 0
    structure_digest: str = ""

    def to_json(self) -> dict[str, Any]:
        blocks = [asdict(block) for block in self.blocks]
        return asdict(self) | {"resolution": self.resolution.to_json(), "blocks": blocks}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> BlockStructure:
        blocks = tuple(BlockShape(**block) for block in value["blocks"])
        return cls(**value | {"resolution": ImageSize.of(value["resolution"]), "blocks": blocks})


@dataclass(frozen=True)
class Scores:
    """Importance scores; larger is more important. `heads` and `ffn` have a row for each block, `depth` a score
    for each block, `embed` a score for each channel of the residual stream."""

    heads: tuple[tuple[float, ...], ...]
    ffn: tuple[tuple[float, ...], ...]
    depth: tuple[float, ...] = ()
    embed: tuple[float, ...] = ()

    @classmethod
    def equal(cls, structure: BlockStructure) -> Scores:
        """Scores by which all units of a structure are equally important."""
        blocks = structure.blocks
        return cls(
            tuple((1.0,) * block.heads for block in blocks),
            tuple((1.0,) * block.ffn_width for block in blocks),
            (1.0,) * len(blocks),
            (1.0,) * structure.embed_dim,
        )

    def to_json(self) -> dict[str, Any]:
        units = {"heads": [list(row) for row in self.heads], "ffn": [list(row) for row in self.ffn]}
        return units | {"depth": list(self.depth), "embed": list(self.embed)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Scores:
        units = tuple(map(tuple, value["heads"])), tuple(map(tuple, value["ffn"]))
        return cls(*units, tuple(value["depth"]), tuple(value["embed"]))


@dataclass(frozen=True)
class ResolvedBlock:
    """The indices kept in one block, ascending. A block that has heads or neurons and keeps none of them is
    removed."""

    heads: tuple[int, ...]
    ffn: tuple[int, ...]


@dataclass(frozen=True)
class ResolvedPlan:
    """A plan with indices instead of ratios. `tokens` is the number of tokens that leave each block, prefix tokens
    included (empty when all stay); `embed` the channels of the residual stream that stay (empty when all stay);
    `precision` is that of its layers, `fp32_layers` are those that a mixed one leaves in fp32; `structure_digest` is
    that of the found structure to which the blocks belong (empty for a declared family)."""

    backbone: str
    resolution: ImageSize
    window_size: int | None
    blocks: tuple[ResolvedBlock, ...]
    tokens: tuple[int, ...] = ()
    token_pruning_method: str | None = None
    embed: tuple[int, ...] = ()
    precision: str = "fp32"
    fp32_layers: tuple[str, ...] = ()
    weight_sparsity: str = "none"
    structure_digest: str = ""

    def keeps_all(self, block_structure: BlockStructure) -> bool:
        """Whether nothing of `block_structure` is pruned, tokens included."""
        if self.tokens or self.embed:
            return False
        pairs = zip(self.blocks, block_structure.blocks, strict=True)
        return all((len(kept.heads), len(kept.ffn)) == (block.heads, block.ffn_width) for kept, block in pairs)

    def kept_indices(self) -> dict[str, Any]:
        """The kept indices, on which the weights depend."""
        found = {"structure_digest": self.structure_digest} if self.structure_digest else {}
        return found | {
            "backbone": self.backbone,
            "resolution": self.resolution.to_json(),
            "window_size": self.window_size,
            "blocks": [{"heads": list(b.heads), "ffn": list(b.ffn)} for b in self.blocks],
            "tokens": list(self.tokens),
            "token_pruning_method": self.token_pruning_method,
            "embed": list(self.embed),
            "weight_sparsity": self.weight_sparsity,
        }

    def kept_counts(self, runtime: str) -> dict[str, Any]:
        """The kept counts, on which the cost of the graph in `runtime` depends. Sparsity does not enter: zero weights
        cost as much as others, except in a runtime whose file depends on them."""
        counted = {
            "blocks": [{"heads": len(b.heads), "ffn": len(b.ffn)} for b in self.blocks],
            "embed": len(self.embed),
            "precision": graph_precision(runtime, self.precision),
            "fp32_layers": list(self.fp32_layers),
        }
        kept = self.kept_indices() | counted
        if not is_versioned(runtime):
            del kept["weight_sparsity"]
        return kept

    def to_json(self) -> dict[str, Any]:
        return self.kept_indices() | {"precision": self.precision, "fp32_layers": list(self.fp32_layers)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ResolvedPlan:
        blocks = (ResolvedBlock(tuple(b["heads"]), tuple(b["ffn"])) for b in value["blocks"])
        listed: dict[str, Any] = {name: tuple(value[name]) for name in ("tokens", "embed", "fp32_layers")}
        size = ImageSize.of(value["resolution"])
        return cls(**value | listed | {"resolution": size, "blocks": tuple(blocks)})


MIXED_SHARE, MIXED_LAYERS = 0.5, 0.25
"""A mixed precision leaves the most sensitive layers in fp32 until the others have at most MIXED_SHARE of the total
sensitivity, but never more than MIXED_LAYERS of the layers."""


def sensitive_layers(sensitivity: Mapping[str, float]) -> tuple[str, ...]:
    """The layers that a mixed precision leaves in fp32, sorted. `sensitivity` is the error from rounding each layer
    alone."""
    worst = sorted(sensitivity, key=lambda name: (-sensitivity[name], name))[: int(len(sensitivity) * MIXED_LAYERS)]
    left, wanted = sum(sensitivity.values()), sum(sensitivity.values()) * MIXED_SHARE
    chosen: list[str] = []
    for name in worst:
        if left <= wanted:
            break
        chosen.append(name)
        left -= sensitivity[name]
    return tuple(sorted(chosen))


def resolve(
    plan: Plan, block_structure: BlockStructure, scores: Scores, sensitivity: Mapping[str, float] | None = None
) -> ResolvedPlan:
    """Resolve `plan` to the indices that it keeps.

    A block that is not removed keeps at least one head and `width_multiple` channels; the stream keeps at least
    `width_multiple` channels; at least one of the removable blocks stays. `sensitivity`, the error from rounding
    each layer alone, decides which layers a mixed precision leaves in fp32.

    The scope `uniform` removes the same share from each block; `global` ranks all units of the backbone together,
    after dividing each block's scores by their mean; `isomorphic` ranks the units of blocks of the same shape
    together, by their unscaled scores (Fang et al. 2024, "Isomorphic pruning").
    """
    cut = plan.compression
    dropped = _dropped(cut, block_structure, scores)
    shapes = [_GONE if index in dropped else block for index, block in enumerate(block_structure.blocks)]
    heads = _kept(
        cut, cut.head_pruning_ratio, _Units(shapes, [it.heads for it in shapes], scores.heads, [1] * len(shapes))
    )
    multiples = [max(1, cut.width_multiple // it.ffn_grain) for it in shapes]
    ffn = _kept(cut, cut.ffn_pruning_ratio, _Units(shapes, [it.ffn_width for it in shapes], scores.ffn, multiples))
    blocks = tuple(ResolvedBlock(h, f) for h, f in zip(heads, ffn, strict=True))
    tokens = _tokens(cut, block_structure, blocks)
    method = cut.token_pruning_method if tokens else None
    fp32_layers = sensitive_layers(sensitivity or {})
    return ResolvedPlan(
        plan.backbone,
        plan.resolution,
        plan.window_size,
        blocks,
        tokens,
        method,
        _embed(cut, scores),
        precision=plan.deployment.precision,
        fp32_layers=fp32_layers,
        weight_sparsity=cut.weight_sparsity,
        structure_digest=block_structure.structure_digest,
    )


def _embed(cut: Compression, scores: Scores) -> tuple[int, ...]:
    """The channels of the stream that stay; empty when all stay."""
    width = len(scores.embed)
    count = _rounded(width * (1.0 - cut.embed_pruning_ratio), width, cut.width_multiple)
    return _top(scores.embed, count) if count < width else ()


def _tokens(cut: Compression, block_structure: BlockStructure, blocks: tuple[ResolvedBlock, ...]) -> tuple[int, ...]:
    """The tokens after each block. Positions count over the blocks that stay: a position at a removed block moves to
    the next block; behind the last one no token is dropped, because only the classifier reads its output."""
    if not cut.token_pruning_ratio or cut.token_pruning_method is None:
        return ()
    staying = [index for index, block in enumerate(blocks) if block.heads or block.ffn]
    moved = {sum(index < position for index in staying) for position in cut.token_pruning_at}
    positions = {position for position in moved if position < len(staying) - 1}
    if cut.token_pruning_at and not positions:
        return ()
    patches, prefix = block_structure.tokens - block_structure.prefix_tokens, block_structure.prefix_tokens
    left = tokens_left(
        cut.token_pruning_method, cut.token_pruning_ratio, tuple(sorted(positions)), len(staying), patches, prefix
    )
    if not left:
        return ()
    behind = [sum(index <= block for index in staying) for block in range(len(blocks))]
    return tuple(left[count - 1] if count else block_structure.tokens for count in behind)


@dataclass(frozen=True)
class _Units:
    """The heads or neurons of all blocks: `sizes` and `scores` by block; counts are multiples of `multiples`."""

    shapes: list[BlockShape]
    sizes: list[int]
    scores: tuple[tuple[float, ...], ...]
    multiples: list[int]


_GONE = BlockShape("dropped", 0, 0, 0)


def _dropped(cut: Compression, block_structure: BlockStructure, scores: Scores) -> frozenset[int]:
    """The least important removable blocks; the ratio refers to their number."""
    if not cut.depth_pruning_ratio:
        return frozenset()
    removable = [index for index, block in enumerate(block_structure.blocks) if block.removable]
    count = min(round(len(removable) * cut.depth_pruning_ratio), len(removable) - 1)
    return frozenset(sorted(removable, key=lambda index: (scores.depth[index], index))[: max(0, count)])


def _kept(cut: Compression, ratio: float, units: _Units) -> list[tuple[int, ...]]:
    if cut.scope == "uniform" or not ratio:
        wanted = [size * (1.0 - ratio) for size in units.sizes]
    elif cut.scope == "global":
        wanted = _ranked_together(ratio, units, [0] * len(units.sizes), _over_mean)
    else:
        wanted = _ranked_together(ratio, units, [(it.heads, it.head_dim, it.ffn_width) for it in units.shapes], list)
    counts = [_rounded(*sized) for sized in zip(wanted, units.sizes, units.multiples, strict=True)]
    return [_top(row, count) for row, count in zip(units.scores, counts, strict=True)]


def _ranked_together(
    ratio: float, units: _Units, groups: Sequence[Hashable], weigh: Callable[[Sequence[float]], list[float]]
) -> list[float]:
    """How many units each block keeps when `ratio` of the units of each group of blocks is removed, lowest first."""
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
    """`count` rounded to the nearest multiple, at least one multiple, at most `size`; a `size` of 0 gives 0."""
    if size == 0 or count >= size:
        return size
    return min(size, max(multiple, round(count / multiple) * multiple))


def _top(row: tuple[float, ...], count: int) -> tuple[int, ...]:
    if count == len(row):
        return tuple(range(count))
    best = sorted(range(len(row)), key=row.__getitem__, reverse=True)  # of equal ones, the first stays
    return tuple(sorted(best[:count]))
