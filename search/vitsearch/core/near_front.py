"""Which models are near a front: what was measured leaves open whether they are on it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from vitsearch.core.figures import Metrics
from vitsearch.core.pareto import Loss, dominates, loss


def may_be_on(front: Iterable[Loss], metrics: Metrics, objectives: Sequence[str]) -> bool:
    """Whether nothing on the front dominates the model with its costs at the better end of their 95 % intervals and its
    accuracy as it was found."""
    values = metrics.at_end(better=True).values | {"accuracy": metrics.value("accuracy")}
    best = loss(objectives, values)
    return best is not None and not any(dominates(one, best) for one in front)
