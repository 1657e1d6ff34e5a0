"""From what a database holds to the values that this program stores there: one decoder for all JSON.

A database may come from somebody else, be damaged, or be edited by hand. So whatever is decoded is compared with the
types of the fields that it becomes, down to the last number, and an error names the row and the path within it:
`record of trial 3: metrics.figures.accuracy.value is 'high', allowed: a finite number`.
"""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

from vitsearch.errors import StudyError, VitsearchError
from vitsearch_agent.errors import AgentError

T = TypeVar("T")
Wrong = tuple[str, Any, str]
"""The path to a value within another one, the value, and what is allowed there."""
Check = Callable[[Any], "Wrong | None"]

SHOWN = 60
"""Characters of a value that an error shows."""
LARGEST = 2**63
"""No whole number of ours is larger; Python takes any, and fails where it becomes a float."""
LONGEST = 300
"""Characters of the reason in an error."""
UNREADABLE = (ArithmeticError, AttributeError, IndexError, TypeError, ValueError, VitsearchError, AgentError)
"""What readers of JSON raise for a value of another shape."""


class Damaged(StudyError):
    """What is stored is not what this program has written: it was damaged, or edited by hand."""


def damaged(where: str, reason: str) -> Damaged:
    """The error for a stored value; `where` names it."""
    return Damaged(
        f"{where}: {' '.join(reason.split())[:300]}; it was damaged or edited: restore a copy of the database"
    )


def shown(value: Any) -> str:
    """A value in at most `SHOWN` characters. Long texts are cut before they are formatted."""
    text = repr(value[: SHOWN + 1]) if isinstance(value, str | bytes) else f"a {type(value).__name__}"
    if value is None or isinstance(value, bool | int | float):
        text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def parsed(text: Any, where: str) -> Any:
    """The value of a JSON text. Raises `Damaged`."""
    try:
        value = json.loads(text)
        if "\\ud" in text or "\\uD" in text:  # JSON can name half a character, which no terminal and no file takes
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise damaged(where, "is nested too deeply") from None
    except (ValueError, TypeError, AttributeError):
        raise damaged(where, f"{shown(text)} is not valid JSON") from None
    return value


def decoded(read: Callable[[Any], T], value: Any, where: str, expected: Any = None) -> T:
    """What `read` makes of a stored value, if all of it has the types of its fields. `expected` is the type of the
    result where that is no dataclass. Raises `Damaged`."""
    try:
        result = read(value)
    except Damaged:
        raise
    except KeyError as error:
        raise damaged(where, f"{error} is missing") from None
    except RecursionError:
        raise damaged(where, "is nested too deeply") from None
    except UNREADABLE as error:
        raise damaged(where, str(error) or type(error).__name__) from None
    expect(type(result) if expected is None else expected, result, where)
    return result


def expect(expected: Any, value: Any, where: str) -> None:
    """Raise `Damaged` unless a value and all in it are of the `expected` type."""
    if (wrong := _check(expected)(value)) is not None:
        path, part, allowed = wrong
        raise damaged(where, f"{path.lstrip('.') or 'it'} is {shown(part)}, allowed: {allowed}")


@cache
def _check(expected: Any) -> Check:
    """The check of a type, made once: a study has millions of values."""
    origin, inner = typing.get_origin(expected), typing.get_args(expected)
    if origin is typing.Annotated:
        return _check(inner[0])
    if expected in (Any, object):
        return _anything
    if kinds := _kinds(expected):
        return _plain(kinds)
    if origin is typing.Literal:
        return _one_of(inner)
    if origin in (typing.Union, types.UnionType):
        return _any_of(tuple(map(_check, inner)))
    if origin is tuple and not (len(inner) == 2 and inner[1] is Ellipsis):
        return _tuple_of(tuple(map(_check, inner)))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return _mapping_of(_check(inner[0]), _check(inner[1]))
    if isinstance(origin, type) and issubclass(origin, Collection):
        return _list_of(_check(inner[0]))
    if is_dataclass(expected):
        return _fields_of(expected)
    if typing.is_typeddict(expected):
        return _keys_of(expected)
    return _instance_of(origin or expected)


_SIMPLE: dict[Any, tuple[type, ...]] = {
    float: (float, int),
    int: (int,),
    bool: (bool,),
    str: (str,),
    type(None): (type(None),),
    None: (type(None),),
}
_WORDS = {float: "a finite number", int: "a whole number", bool: "true or false", str: "a text", type(None): "null"}


def _kinds(expected: Any) -> frozenset[type]:
    """The types of the values of a simple type, or of a union of simple types; empty for all others."""
    is_union = typing.get_origin(expected) in (typing.Union, types.UnionType)
    parts = typing.get_args(expected) if is_union else (expected,)
    if not all(isinstance(part, type | None) and part in _SIMPLE for part in parts):
        return frozenset()
    return frozenset(kind for part in parts for kind in _SIMPLE[part])


def _is_wrong(value: Any, kinds: frozenset[type]) -> bool:
    kind = type(value)
    if kind is int:
        return kind not in kinds or not -LARGEST <= value <= LARGEST
    return kind not in kinds or (kind is float and value - value != 0.0)  # NaN and infinity are no figures


def _plain(kinds: frozenset[type]) -> Check:
    names = [word for kind, word in _WORDS.items() if kind in kinds and not (kind is int and float in kinds)]
    allowed = " or ".join(names)

    def check(value: Any) -> Wrong | None:
        return ("", value, allowed) if _is_wrong(value, kinds) else None

    return check


def _anything(value: Any) -> Wrong | None:
    return None


def _one_of(values: tuple[Any, ...]) -> Check:
    allowed = ", ".join(map(str, values))

    def check(value: Any) -> Wrong | None:
        good = isinstance(value, str | int) and value in values
        return None if good else ("", value, f"one of {allowed}")

    return check


def _any_of(checks: tuple[Check, ...]) -> Check:
    def check(value: Any) -> Wrong | None:
        mismatches: list[Wrong] = []
        for check_kind in checks:
            if (wrong := check_kind(value)) is None:
                return None
            mismatches.append(wrong)
        deepest = max(mismatches, key=lambda wrong: len(wrong[0]))
        return deepest if deepest[0] else ("", value, " or ".join(wrong[2] for wrong in mismatches))

    return check


def _list_of(item: Check) -> Check:
    def check(value: Any) -> Wrong | None:
        if isinstance(value, str) or not isinstance(value, Sequence | set | frozenset):
            return "", value, "a list"
        if item is not _anything:
            for index, element in enumerate(value):
                if (wrong := item(element)) is not None:
                    return f"[{index}]{wrong[0]}", *wrong[1:]
        return None

    return check


def _tuple_of(items: tuple[Check, ...]) -> Check:
    def check(value: Any) -> Wrong | None:
        if not isinstance(value, tuple | list) or len(value) != len(items):
            return "", value, f"a list of {len(items)}"
        for index, (item, element) in enumerate(zip(items, value, strict=True)):
            if (wrong := item(element)) is not None:
                return f"[{index}]{wrong[0]}", *wrong[1:]
        return None

    return check


def _mapping_of(key: Check, item: Check) -> Check:
    def check(value: Any) -> Wrong | None:
        if not isinstance(value, Mapping):
            return "", value, "an object"
        for name, element in value.items():
            if (wrong := key(name) or item(element)) is not None:
                return f".{str(name)[:SHOWN]}{wrong[0]}", *wrong[1:]
        return None

    return check


def _fields_of(kind: Any) -> Check:
    hints = typing.get_type_hints(kind)
    names = [field.name for field in fields(kind)]
    simple = tuple((name, kinds) for name in names if (kinds := _kinds(hints[name])))
    others = tuple((name, _check(hints[name])) for name in names if not _kinds(hints[name]))

    def check(value: Any) -> Wrong | None:
        if type(value) is not kind:
            return "", value, f"a {kind.__name__}"
        stored = vars(value)
        for name, kinds in simple:
            field_value = stored[name]
            if type(field_value) is str and str in kinds:  # most are texts, and the call takes longer than the check
                continue
            if _is_wrong(field_value, kinds):
                return f".{name}", *_check(hints[name])(stored[name])[1:]  # type: ignore[index]
        for name, check_field in others:
            if (wrong := check_field(stored[name])) is not None:
                return f".{name}{wrong[0]}", *wrong[1:]
        return None

    return check


def _keys_of(kind: Any) -> Check:
    """Of an object with some known keys; others may be there."""
    checks = {name: _check(hint) for name, hint in typing.get_type_hints(kind).items()}
    hints = typing.get_type_hints(
        kind, include_extras=True
    ).items()  # __required_keys__ cannot read annotations in text
    required = {name for name, hint in hints if kind.__total__ and typing.get_origin(hint) is not typing.NotRequired}

    def check(value: Any) -> Wrong | None:
        if not isinstance(value, Mapping):
            return "", value, "an object"
        for name, check_key in checks.items():
            if name not in value and name in required:
                return "", value, f"an object with {name}"
            if name in value and (wrong := check_key(value[name])) is not None:
                return f".{name}{wrong[0]}", *wrong[1:]
        return None

    return check


def _instance_of(kind: Any) -> Check:
    def check(value: Any) -> Wrong | None:
        good = not isinstance(kind, type) or isinstance(value, kind)
        return None if good else ("", value, f"a {kind.__name__}")

    return check
