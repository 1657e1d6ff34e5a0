"""The command `vitsearch plan`: a plan file read, filled in, judged and described."""

from __future__ import annotations

from pathlib import Path

from vitsearch import api, backbones
from vitsearch.core.caveats import known_bad
from vitsearch.core.plan import plan_text
from vitsearch.space.plan_file import Backbones, WrittenPlan, read_plan


def read(file: Path, space_file: Path | None) -> WrittenPlan:
    """The plan in `file`. Raises PlanError with every reason why it cannot be built, SpaceError for a space file with
    problems."""
    space = api.judged_space(space_file, ()).require().space if space_file is not None else None
    return read_plan(file, space, Backbones(backbones.supports, backbones.native_resolution))


def warning(written: WrittenPlan) -> str | None:
    """What is known against the plan's combination of model, runtime and precision; None when nothing is."""
    plan = written.plan
    return known_bad.warning(plan.backbone, plan.deployment)


def describe(file: Path, written: WrittenPlan) -> str:
    """The plan in one line, and a line with what was filled in."""
    filled = ", ".join(f"{key} {value}" for key, value in written.filled_in.items())
    return f"{file}: fine. {plan_text(written.plan)}" + (f"\nfilled in: {filled}" if filled else "")
