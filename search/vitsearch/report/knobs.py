"""The choices that make a plan, as the figures show them."""

from __future__ import annotations

from vitsearch.core.plan import Plan
from vitsearch.study.knob_values import knob_values

Choice = str | float
NONE = "none"


def knobs(plan: Plan) -> dict[str, Choice]:
    """What was chosen for a plan, by the names of a space file. A value that a plan does not have is ``none``, and so
    is the scope of a plan that prunes nothing."""
    chosen = {name: NONE if value is None or value == "" else value for name, value in knob_values(plan).items()}
    return chosen | {"pruning_scope": NONE} if plan.compression.is_identity else chosen
