"""The parts of a file that are valid by themselves, while others may be wrong.

The rules read these, so that a slip in one section hides no problem of another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from vitsearch.space.model import SearchSpace

READS: dict[str, tuple[str, ...]] = {
    "objectives": ("objectives",),
    "limits": ("limits",),
    "data": ("task", "data"),
    "teacher": ("task", "teacher"),
    "distillation": ("space", "distillation"),
    "measure": ("measure",),
}


def valid_parts(raw: dict[str, Any]) -> dict[str, Any]:
    """Each part of :data:`READS` that is right, or its default; of mappings the entries that are right.

    ``objective_names`` and ``device_names`` are the names alone, right or wrong.
    """
    parts = {name: _part(raw, path) for name, path in READS.items()}
    parts["objective_names"] = _names(raw, "objectives")
    parts["device_names"] = _names(raw, "devices") or _listed(raw, "devices")
    return {name: part for name, part in parts.items() if part is not None}


def _names(raw: dict[str, Any], section: str) -> tuple[str, ...] | None:
    given = raw.get(section)
    return tuple(given) if isinstance(given, dict) else None


def _listed(raw: dict[str, Any], section: str) -> tuple[str, ...]:
    given = raw.get(section)
    return tuple(name for name in given if isinstance(name, str)) if isinstance(given, list) else ()


def _part(raw: Any, path: tuple[str, ...]) -> Any:
    section: type[BaseModel] = SearchSpace
    for key in path[:-1]:
        section = cast(type[BaseModel], section.model_fields[key].annotation)
        raw = raw.get(key) if isinstance(raw, dict) else None
    field = section.model_fields[path[-1]]
    given = raw.get(path[-1]) if isinstance(raw, dict) else None
    if given is None:
        return None if field.is_required() else field.get_default()
    kind: Any = field.annotation
    for metadata in field.metadata:
        kind = Annotated[kind, metadata]
    validate = TypeAdapter[Any](kind).validate_python
    if path in (("objectives",), ("limits",)) and isinstance(given, dict):
        return _right_entries(given, validate)
    try:
        return validate(given)
    except ValidationError:
        return None


def _right_entries(given: dict[str, Any], validate: Callable[[Any], Any]) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], validate(given))
    except ValidationError as error:
        wrong = {detail["loc"][0] for detail in error.errors()}
    return cast(dict[str, Any], validate({key: value for key, value in given.items() if key not in wrong}))
