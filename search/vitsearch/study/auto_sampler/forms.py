"""The form of an objective's model: its scale, and whether its knobs add up. A declared cost has its form; of any other
objective the data decide, by the evidence of the fits of all forms in the unit of the objective."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vitsearch.study.auto_sampler.encoding import Floats, Integers, Points
from vitsearch.study.auto_sampler.gaussian_process import ADDITIVE_ERRORS, COSTS, ERRORS, Settings, best_fit

FEWEST = 8
"""Values with which the data decide; with fewer an objective is as it comes."""
WIDEST = 1e4
"""How far the median of values that differ by factors is from the least one, at most: the logarithm of a zero with a
rounding error would decide alone."""


@dataclass(frozen=True)
class Form:
    """`by_factors`: the logarithm is modelled."""

    by_factors: bool
    settings: Settings


AS_IT_COMES = Form(False, ERRORS)
DECLARED_COST = Form(False, COSTS)
"""Its observations are logarithms already."""
FORMS = (AS_IT_COMES, Form(False, ADDITIVE_ERRORS), Form(True, ERRORS), Form(True, ADDITIVE_ERRORS))


@dataclass(frozen=True)
class Data:
    """What is known of an objective: `targets` (n,) at `points`, with the `deviations` (n,) of their own errors, and
    how far they move with each `shared` error (n, errors)."""

    points: Points
    targets: Floats
    deviations: Floats
    shared: Floats

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: Integers) -> Data:
        return Data(self.points.take(rows), self.targets[rows], self.deviations[rows], self.shared[rows])

    def in_form(self, form: Form) -> Data:
        if not form.by_factors:
            return self
        values = self.targets
        return Data(self.points, np.log(values), self.deviations / values, self.shared / values[:, None])

    @property
    def key(self) -> bytes:
        """Equal for equal data."""
        return b"".join(part.tobytes() for part in (self.points.similarity, self.targets, self.deviations, self.shared))


def best_form(data: Data, may_be_by_factors: bool) -> Form:
    """The form under which the data are most probable."""
    if len(data) < FEWEST or not np.ptp(data.targets):
        return AS_IT_COMES
    are_factors = may_be_by_factors and data.targets.min() > max(float(np.median(data.targets)) / WIDEST, 0.0)
    possible = [form for form in FORMS if are_factors or not form.by_factors]
    return max(possible, key=lambda form: _evidence(data, form))


def _evidence(data: Data, form: Form) -> float:
    """The logarithm of the density of the targets themselves: that of their logarithms, and what these move by; less
    one for each additive weight, as a fit of more of them is better by chance."""
    scaled = data.in_form(form)
    fit = best_fit(scaled.points, scaled.targets, scaled.deviations, form.settings, scaled.shared)
    weights = len(fit.hyperparameters.additive)
    return fit.evidence - weights - (float(scaled.targets.sum()) if form.by_factors else 0.0)
