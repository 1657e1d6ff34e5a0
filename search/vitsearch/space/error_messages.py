"""pydantic's errors as messages for the user: the value seen, the values allowed, the nearest name.

The allowed values are read from the JSON Schema, so that each is defined only once, in its section.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from vitsearch.core.targets import TARGETS
from vitsearch.errors import did_you_mean
from vitsearch.space.model import SearchSpace
from vitsearch.space.nodes import Path
from vitsearch.space.problems import MISSING, Problem, nearest_or_all
from vitsearch.space.value_types import TAGS
from vitsearch.storage.addresses import masked

EMPTY = "must not be empty"
MOST_PROBLEMS = 200
"""So many are named of a file. To look for the nearest key costs a fifth of a millisecond each."""
NOT_MADE = {precision for runtime in TARGETS.values() for precision in runtime.refused}.difference(
    *(runtime.precisions for runtime in TARGETS.values())
)
"""Precisions that no runtime supports yet; messages do not offer them."""
SECRETS = frozenset({"token", "storage", "url"})

KINDS = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "string_unicode": "text of valid characters",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def problems_of(error: ValidationError) -> list[Problem]:
    """One problem for each error, without errors that follow from another one. Of very many, the first are named."""
    details = error.errors(include_url=False)
    problems = [_problem(detail) for detail in details[:MOST_PROBLEMS]]
    named = [problem for problem in problems if not _follows(problem, problems)]
    left = len(details) - len(problems)
    return [*named, *([Problem((), f"the file has {left:,} more problems, which are not named")] if left else [])]


def _follows(problem: Problem, problems: list[Problem]) -> bool:
    """Whether a problem follows from another: a key is missing because it is misspelt, or a list is empty because its
    items are invalid."""
    if problem.message == MISSING:
        misspelt = f"; did you mean {problem.path[-1]!r}?"
        return any(p.path == problem.path[:-1] and p.message.endswith(misspelt) for p in problems)
    depth = len(problem.path)
    return problem.message == EMPTY and any(len(p.path) > depth and p.path[:depth] == problem.path for p in problems)


def seen(value: Any, path: Path = ()) -> str:
    """A value as the user wrote it, shortened, with secrets masked."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if value is None:
        return "nothing"
    if SECRETS & set(path):
        return repr(masked(value)) if isinstance(value, str) and "token" not in path else "this value"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _problem(detail: ErrorDetails) -> Problem:
    kind, value = detail["type"], detail["input"]
    if kind == "extra_forbidden":
        *parents, key = detail["loc"]  # a key of the user's may be spelt like a tag
        section = _without_tags(parents)
        return Problem(section, _unknown_key(str(key), section), at=(*section, key))
    path = _without_tags(detail["loc"])
    return Problem(path, _message(kind, value, path, detail))


def _without_tags(location: Iterable[int | str]) -> Path:
    return tuple(part for part in location if part not in TAGS)


def _message(kind: str, value: Any, path: Path, detail: ErrorDetails) -> str:
    if kind == "missing":
        return MISSING
    if kind == "vitsearch":
        return detail["msg"]
    if kind == "literal_error":
        return _unknown_word(value, path)
    if kind in ("string_too_short", "too_short"):
        return EMPTY
    if kind == "string_pattern_mismatch":
        example = _first(path, "examples")[0]
        return f"{seen(value, path)} is not a valid name; allowed: a-z, 0-9, - and _, such as {example}"
    if kind in ("greater_than", "less_than"):
        return f"must be {_bounds(path)}, not {seen(value, path)}"
    if kind == "greater_than_equal":
        return f"{seen(value, path)} is below {_number(detail['ctx']['ge'])}; allowed: {_bounds(path, below=True)}"
    if kind == "less_than_equal":
        return f"{seen(value, path)} is above {_number(detail['ctx']['le'])}; allowed: {_bounds(path)}"
    return f"must be {KINDS.get(kind, 'something else')}, not {seen(value, path)}"


def _unknown_key(key: str, path: Path) -> str:
    allowed = sorted({name for schema in _schemas(path) for name in schema.get("properties", {})})
    return f"unknown key {key!r}{nearest_or_all(key, allowed if path else sorted([*allowed, 'extends']))}"


def _unknown_word(value: Any, path: Path) -> str:
    listed = [schema.get("enum", [schema.get("const")]) for schema in _schemas(path)]
    words = [str(word) for words in listed for word in words if word is not None and word not in NOT_MADE]
    allowed = ", ".join([*words, *_other_kinds(path)])
    near = did_you_mean(value, words) if isinstance(value, str) else ""
    return f"{seen(value, path)} is not a valid value; allowed: {allowed}{near}"


def _other_kinds(path: Path) -> list[str]:
    """The kinds of value that are allowed besides words."""
    schemas = _schemas(path)
    bounded = {schema["type"] for schema in schemas if "minimum" in schema or "exclusiveMinimum" in schema}
    numbers = [words for kind, words in _NUMBERS.items() if kind in bounded]
    return [*numbers, *(_mapping(schema) for schema in schemas if "properties" in schema)]


_NUMBERS = {"integer": "a whole number", "number": "a number"}


def _mapping(schema: dict[str, Any]) -> str:
    """An example with the required keys of a mapping, or all its keys when none is required."""
    if required := schema.get("required", ()):
        return f"or a mapping such as {{{', '.join(f'{key}: {key.upper()}' for key in required)}}}"
    return f"or a mapping of {', '.join(schema['properties'])}"


def _bounds(path: Path, below: bool = False) -> str:
    """The allowed range; for a value `below` it, a huge upper bound is left out."""
    low, above = _first(path, "minimum"), _first(path, "exclusiveMinimum")
    high, under = _first(path, "maximum"), _first(path, "exclusiveMaximum")
    if low is not None and under is None:
        return (
            f"{_number(low)} or more"
            if high is None or (below and high >= HUGE)
            else f"{_number(low)} to {_number(high)}"
        )
    start = f"above {_number(above)}" if low is None else f"at least {_number(low)}"
    if under is not None:
        return f"{start} and below {_number(under)}"
    return start if high is None else f"{start} and at most {_number(high)}"


HUGE = 10**9


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _first(path: Path, word: str) -> Any:
    return next((schema[word] for schema in _schemas(path) if word in schema), None)


@cache
def _root() -> dict[str, Any]:
    return SearchSpace.model_json_schema()


def _schemas(path: Path) -> list[dict[str, Any]]:
    """The parts of the JSON Schema that describe `path`."""
    schemas = list(_variants(_root()))
    for part in path:
        children = [child for schema in schemas for child in _child(schema, part)]
        schemas = [variant for child in children for variant in _variants(child)]
    return schemas


def _variants(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    if "$ref" in schema:
        yield from _variants(_root()["$defs"][schema["$ref"].rpartition("/")[2]])
    for word in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(word, ()):
            yield from _variants(part)


def _child(schema: dict[str, Any], part: str | int) -> Iterator[dict[str, Any]]:
    inner = schema.get("items") if isinstance(part, int) else schema.get("properties", {}).get(part)
    if inner is None and isinstance(part, str):
        inner = schema.get("additionalProperties")
    if isinstance(inner, dict):
        yield inner
