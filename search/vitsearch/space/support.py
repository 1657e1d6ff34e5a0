"""A check that at least one backbone of a space file supports each value in it.

The backbones are asked through a function, so that this package depends on no backbone and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from vitsearch.core import precisions
from vitsearch.errors import UnknownName
from vitsearch.space.load import LoadedSpace
from vitsearch.space.model import SearchSpace
from vitsearch.space.nodes import Path
from vitsearch.space.source import Problem
from vitsearch.space.task import Teacher

NAMED = 3
"""Largest number of backbones that a message names for one reason."""
Supports = Callable[[str, str, Any], str | None]
"""``supports(backbone, knob, value)`` returns None when the backbone supports the value, otherwise the reason why not.

Raises :class:`UnknownName` for a backbone that does not exist. Knobs are those of ``SearchSpace.choices()`` and
``weights``."""


def check(loaded: LoadedSpace, supports: Supports) -> list[str]:
    """Lines for the user about unknown backbones and about values that no backbone of the file supports."""
    space, source = loaded
    unknown = dict(_unknown(space, supports))
    problems = [Problem(path, message) for path, (_, message) in unknown.items()]
    missing = {name for name, _ in unknown.values()}
    known = [choice.name for choice in space.space.backbone if choice.name not in missing]
    problems += _weights(space, known, supports)
    if known:
        problems += _unusable_values(space, known, supports)
        problems += _unusable_backbones(space, known, supports, {problem.path for problem in problems})
    if space.baseline.backbone not in missing:
        problems += _baseline(loaded, supports, {problem.path for problem in problems})
        problems += _unexportable_baseline(space, supports)
    return source.lines(problems)


def _unknown(space: SearchSpace, supports: Supports) -> Iterator[tuple[Path, tuple[str, str]]]:
    named: list[tuple[Path, str]] = [
        (("space", "backbone", index), choice.name) for index, choice in enumerate(space.space.backbone)
    ]
    if space.baseline.backbone not in {name for _, name in named}:
        named.append((("baseline", "backbone"), space.baseline.backbone))
    if isinstance(space.task.teacher, Teacher):
        named.append((("task", "teacher", "backbone"), space.task.teacher.backbone))
    for path, name in named:
        try:
            supports(name, "resolution", max(space.space.resolution))
        except UnknownName as error:
            yield path, (name, str(error))


def _weights(space: SearchSpace, known: list[str], supports: Supports) -> Iterator[Problem]:
    for index, choice in enumerate(space.space.backbone):
        reason = supports(choice.name, "weights", choice.weights) if choice.name in known else None
        if reason is not None:
            yield Problem(("space", "backbone", index), f"weights {choice.weights!r}: {reason}")


def _unusable_values(space: SearchSpace, known: list[str], supports: Supports) -> Iterator[Problem]:
    for knob, values in space.choices().items():
        if knob == "backbone" or not _is_searched(space, knob):
            continue
        for index, value in enumerate(values):
            if knob == "quantization" and (why := _why_not_made(space, value)):
                yield Problem(("space", knob, index), why)
                continue
            reasons = {name: _reason(space, supports, name, (knob, value)) for name in known}
            if all(reason is not None for reason in reasons.values()):
                yield Problem(
                    ("space", knob, index), f"no backbone of the file supports {value!r} ({_grouped(reasons)})"
                )


def _grouped(reasons: dict[str, str | None]) -> str:
    """Format reasons as ``a, b: why; c: why``: backbones are grouped by reason, and long groups are shortened."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(str(reason).removeprefix(f"{name} "), []).append(name)
    named = {
        reason: names[:NAMED] + ([f"{len(names) - NAMED} more"] if len(names) > NAMED else [])
        for reason, names in groups.items()
    }
    return "; ".join(f"{', '.join(names)}: {reason}" for reason, names in named.items())


def _reason(space: SearchSpace, supports: Supports, name: str, asked: tuple[str, Any]) -> str | None:
    """Why a backbone does not support a knob's value, or None. A window must divide the maps at one of the resolutions
    at least; the reason is that of the last one."""
    knob, value = asked
    reason = supports(name, knob, value)
    if reason is not None or knob != "window_size":
        return reason
    fits = [supports(name, f"{knob}@{pixels}", value) for pixels in space.space.resolution]
    return None if None in fits else fits[-1]


def _is_searched(space: SearchSpace, knob: str) -> bool:
    """Whether the knob matters: method and positions of token pruning do only when some ratio is above 0."""
    return knob not in ("token_pruning_method", "token_pruning_at") or any(space.space.token_pruning_ratio)


def _why_not_made(space: SearchSpace, precision: str) -> str | None:
    """Why ``precision`` can be made for no runtime of the file, or None when it can."""
    reasons = [precisions.supports(runtime, precision) for runtime in space.space.backend]
    return None if None in reasons else "; ".join(map(str, reasons))


def _unusable_backbones(
    space: SearchSpace, known: list[str], supports: Supports, reported: set[Path]
) -> Iterator[Problem]:
    """Backbones that support no value of a knob, although other backbones do."""
    for knob in ("resolution", "distillation", "quantization"):
        values = space.choices()[knob]
        if any(("space", knob, index) in reported for index in range(len(values))):
            continue
        for index, choice in enumerate(space.space.backbone):
            reasons = [supports(choice.name, knob, value) for value in values] if choice.name in known else []
            if reasons and all(reason is not None for reason in reasons):
                yield Problem(("space", "backbone", index), f"supports no {knob} of the file: {reasons[-1]}")


_SAME_AS = {"weights": "backbone", "resolution": "resolution"}


def _baseline(loaded: LoadedSpace, supports: Supports, reported: set[Path]) -> Iterator[Problem]:
    """Values that the baseline does not support, except those taken from a knob that is already reported."""
    base = loaded.space.baseline
    for key in ("weights", "resolution"):
        value = getattr(base, key)
        written = ("baseline", key) in loaded.source.locations
        knob, choices = _SAME_AS[key], loaded.space.choices()
        taken = base.backbone if key == "weights" else value
        same = not written and taken in choices[knob] and ("space", knob, choices[knob].index(taken)) in reported
        reason = None if same else supports(base.backbone, key, value)
        if reason is not None:
            yield Problem(("baseline", key), f"{base.backbone} does not support {value!r}: {reason}")


def _unexportable_baseline(space: SearchSpace, supports: Supports) -> Iterator[Problem]:
    """The baseline is measured in fp32 too; as a backbone of the search it is already reported."""
    name = space.baseline.backbone
    if name not in {choice.name for choice in space.space.backbone}:
        reason = supports(name, "quantization", "fp32")
        if reason is not None:
            yield Problem(("baseline", "backbone"), reason)
