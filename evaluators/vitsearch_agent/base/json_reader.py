"""Strict readers for JSON from outside: exact keys, exact types, and errors that name the location.

A reader takes `(value, where)` and returns the value or raises InvalidRequest; `where` names the value in errors.
"""

import re
from typing import Any, Callable, Collection, Dict, Mapping, Optional, Tuple, get_type_hints

from vitsearch_agent.errors import InvalidRequest

Reader = Callable[[Any, str], Any]

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


def read_object(
    value: Any, readers: Mapping[str, Reader], where: str, optional_keys: Collection[str] = ()
) -> Dict[str, Any]:
    """Read a JSON object that has exactly the keys of `readers`, of which `optional_keys` may be absent."""
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where}: expected an object, got {_shown(value)}")
    unknown = sorted(set(value) - set(readers))
    missing = sorted(set(readers) - set(value) - set(optional_keys))
    if unknown or missing:
        problems = []
        if unknown:
            problems.append(f"unknown {', '.join(unknown)}")
        if missing:
            problems.append(f"missing {', '.join(missing)}")
        allowed = ", ".join(sorted(readers))
        raise InvalidRequest(f"{where}: {' and '.join(problems)}; the keys are {allowed}")
    return {key: reader(value[key], f"{where}.{key}") for key, reader in readers.items() if key in value}


def text(value: Any, where: str) -> str:
    return _text(value, where, 4096)


def long_text(longest: int) -> Reader:
    """Return a reader of strings of at most `longest` characters."""

    def read(value: Any, where: str) -> str:
        return _text(value, where, longest)

    return read


def _text(value: Any, where: str, longest: int) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise InvalidRequest(f"{where}: expected a string of at most {longest} characters, got {_shown(value)}")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:  # "\ud800" is valid JSON, but only half of a character
        raise InvalidRequest(f"{where}: expected valid Unicode text, got {_shown(value)}") from error
    return value


def sha256(value: Any, where: str) -> str:
    if not isinstance(value, str) or not _SHA256.match(value):
        raise InvalidRequest(f"{where}: expected 64 lower-case hex digits, got {_shown(value)}")
    return value


def boolean(value: Any, where: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(f"{where}: expected true or false, got {_shown(value)}")
    return value


def one_of(*allowed: str) -> Reader:
    def read(value: Any, where: str) -> str:
        if value not in allowed:
            raise InvalidRequest(f"{where}: {_shown(value)} is not one of {', '.join(allowed)}")
        return str(value)

    return read


def integer(low: int = 0, high: int = 2**53) -> Reader:
    def read(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidRequest(f"{where}: expected a whole number from {low} to {high}, got {_shown(value)}")
        return value

    return read


def number(low: float = -1e300, high: float = 1e300) -> Reader:
    def read(value: Any, where: str) -> float:
        good = isinstance(value, (int, float)) and not isinstance(value, bool)
        # Compare before the conversion: a whole number may be too large for a float.
        if not good or not low <= value <= high:
            raise InvalidRequest(f"{where}: expected a number from {low:g} to {high:g}, got {_shown(value)}")
        return float(value)

    return read


def optional(reader: Reader) -> Reader:
    def read(value: Any, where: str) -> Any:
        return None if value is None else reader(value, where)

    return read


def sequence(reader: Reader, longest: int = 10000) -> Reader:
    def read(value: Any, where: str) -> Tuple[Any, ...]:
        if not isinstance(value, (list, tuple)) or len(value) > longest:
            raise InvalidRequest(f"{where}: expected a list of at most {longest} items, got {_shown(value)}")
        return tuple(reader(item, f"{where}[{index}]") for index, item in enumerate(value))

    return read


def mapping(reader: Optional[Reader] = None) -> Reader:
    def read(value: Any, where: str) -> Dict[str, Any]:
        if not isinstance(value, dict):
            raise InvalidRequest(f"{where}: expected an object, got {_shown(value)}")
        if reader is None:
            return dict(value)
        return {text(key, where): reader(item, f"{where}.{key}") for key, item in value.items()}

    return read


def of_fields(kind: Any, **others: Reader) -> Dict[str, Reader]:
    """Return readers of the fields of a NamedTuple by their annotations, and `others` for those that allow less, or
    whose type is neither plain nor Optional of a plain one."""
    hints = get_type_hints(kind)
    return {name: others[name] if name in others else _of_type(hint) for name, hint in hints.items()}


def _of_type(hint: Any) -> Reader:
    plain = {float: number(), int: integer(), str: text, bool: boolean}
    if hint in plain:
        return plain[hint]
    (inner,) = (kind for kind in hint.__args__ if kind is not type(None))
    return optional(plain[inner])


def _shown(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 80 else shown[:77] + "..."
