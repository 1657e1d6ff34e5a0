"""What was found in a model, level by level, in the words of its own classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from torch import nn

from vitsearch.compress import matrices
from vitsearch.structure.values import Structure


@dataclass(frozen=True)
class Levels:
    """How much of a model can be cut, by the class of the module that holds it.

    Attributes:
        widths: Numbers of hidden widths.
        unfitted: Those of them that are cut without a refit, because what reads them cannot be fitted in closed form.
        heads: Numbers of attentions whose heads can be removed.
        blocks: Numbers of residual blocks that can be dropped.
        refusals: The reason by which the heads of a class were refused.
    """

    widths: Mapping[str, int]
    unfitted: int
    heads: Mapping[str, int]
    blocks: Mapping[str, int]
    refusals: Mapping[str, str]

    def lines(self) -> Iterator[str]:
        """One sentence for each level."""
        fitted = f", {self.unfitted} of them without a refit" if self.unfitted else ""
        yield f"hidden channels of {_counted(self.widths)}{fitted}" if self.widths else "no hidden channels"
        yield f"heads of {_counted(self.heads)}" if self.heads else "no attention heads"
        yield f"{_counted(self.blocks)} can be dropped" if self.blocks else "no block that can be dropped"
        for kind, reason in self.refusals.items():
            yield f"the heads of {'the other ' if kind in self.heads else ''}{kind} stay: {reason}"


def levels_of(model: nn.Module, structure: Structure) -> Levels:
    """Count the parts of a structure.

    Args:
        model: The whole model, which may be on the meta device.
        structure: What was found in it.

    Returns:
        The counts, the most frequent classes first.
    """

    def kind(name: str) -> str:
        return type(model.get_submodule(name)).__name__

    widths = [part.width for part in structure.parts if part.width is not None]
    heads = [part.heads for part in structure.parts if part.heads is not None]
    return Levels(
        _ordered(Counter(kind(width.scope) for width in widths)),
        sum(not matrices.can_be_fitted(model.get_submodule(width.consumer)) for width in widths),
        _ordered(Counter(kind(each.scope) for each in heads)),
        _ordered(Counter(kind(part.name) for part in structure.parts if part.removable)),
        {refusal.type: refusal.reason for refusal in reversed(structure.refusals) if refusal.kind == "heads"},
    )


def _ordered(counts: Counter[str]) -> Mapping[str, int]:
    return dict(counts.most_common())


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())
