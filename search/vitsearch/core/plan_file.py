"""Reading of plans that a person wrote as JSON, with one line for each problem."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from vitsearch.core.plan import Augmentation, Compression, Deployment, Plan, Recipe
from vitsearch.errors import PlanError, did_you_mean

_PARTS: dict[str, type] = {"compression": Compression, "recipe": Recipe, "augmentation": Augmentation}
_REQUIRED: dict[type, tuple[str, ...]] = {
    Plan: ("backbone", "weights", "resolution", "window_size", "compression", "distillation", "recipe", "deployments"),
    Recipe: ("rungs", "images_per_epoch", "batch_size", "lr", "weight_decay", "warmup_steps", "distillation_weight")
    + ("temperature", "seed"),
    Deployment: ("device", "runtime", "provider", "precision", "options"),
}


def read_plan(path: Path) -> Plan:
    """Read a plan from a JSON file in the form that ``vitsearch front --json`` prints.

    Raises :class:`~vitsearch.errors.PlanError` with every key that is missing, unknown or of the wrong kind.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(f"{path}: the file does not exist") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise PlanError(f"{path}: cannot be read as JSON ({error})") from None
    problems = [f"  {problem}" for problem in _problems(value)]
    if problems:
        raise PlanError("\n".join([f"{path}: not a valid plan", *problems]))
    return Plan.from_json(value)


def _problems(value: Any) -> Iterator[str]:
    """Unknown and missing keys; without those, values of the wrong kind."""
    keys = list(_keys(Plan, value, ""))
    if keys:
        yield from keys
        return
    # Imported here to keep start-up fast: only the reading of a plan file needs it.
    from pydantic import TypeAdapter, ValidationError

    pairs = [d | {"options": list(d["options"].items())} for d in value["deployments"]]
    try:
        TypeAdapter(Plan).validate_python(value | {"deployments": pairs})
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            yield f"{'.'.join(map(str, detail['loc']))}: {detail['msg']}, not {detail['input']!r}"


def _keys(kind: type, value: Any, where: str) -> Iterator[str]:
    if not isinstance(value, dict):
        yield f"{where or 'the file'} must be a mapping, not {value!r}"
        return
    known = {item.name: item for item in fields(kind)}
    for name in value:
        if name not in known:
            yield f"unknown key {where}{name}{did_you_mean(str(name), known)}"
    yield from (f"{where}{name} is missing" for name in _REQUIRED.get(kind, ()) if name not in value)
    for name, part in value.items():
        if name in _PARTS:
            yield from _keys(_PARTS[name], part, f"{where}{name}.")
        elif name in ("deployments", "rungs") and not isinstance(part, list):
            yield f"{where}{name} must be a list, not {part!r}"
        elif name == "options" and not isinstance(part, dict):
            yield f"{where}{name} must be a mapping, not {part!r}"
        elif name == "deployments":
            for index, deployment in enumerate(part):
                yield from _keys(Deployment, deployment, f"deployments[{index}].")
