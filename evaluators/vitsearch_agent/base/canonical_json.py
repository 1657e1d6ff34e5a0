"""Canonical JSON: equal values have the same bytes, and so the same digest, on every machine."""

import hashlib
import json
import math
import time
from typing import Any, BinaryIO, Dict, Iterable, List, Tuple

DEPTH_MAX = 100
"""Maximum depth of nested lists and objects. Python 3.13 parses thousands of levels, which recursion cannot walk."""

_SCALARS = frozenset([str, int, float, bool, type(None)])
_FILE_BLOCK_BYTES = 1 << 20
_DIGITS_MAX = 4300
"""Maximum digits of a whole number, as in newer Pythons; older ones need 15 s for a million digits."""


def canonical_json(value: Any) -> bytes:
    """Return `value` as ASCII JSON with sorted keys, no spaces and floats by `repr`.

    `1` and `1.0` are different values. Raises ValueError for NaN and infinity, and TypeError for keys that are
    not strings and for values that JSON cannot express.
    """
    _refuse_other_keys(value)
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.encode("ascii")


def digest(value: Any) -> str:
    """Return the sha256 of `canonical_json(value)` as 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def file_digest(path: str) -> str:
    """Return the sha256 of a file's bytes as 64 hex digits."""
    with open(path, "rb") as stream:
        return stream_digest(stream)


def stream_digest(stream: BinaryIO) -> str:
    """Return the sha256 of the rest of a stream as 64 hex digits."""
    sha256 = hashlib.sha256()
    for block in iter(lambda: stream.read(_FILE_BLOCK_BYTES), b""):
        sha256.update(block)
    return sha256.hexdigest()


def parse_json(data: bytes) -> Any:
    """Parse UTF-8 JSON. ValueError for malformed input, NaN, infinity (also 1e999), repeated keys, and nesting
    deeper than DEPTH_MAX."""
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            parse_int=_whole,
            object_pairs_hook=_unique_keys,
        )
    except RecursionError as error:
        raise ValueError("JSON is nested too deeply") from error
    _refuse_depth(value)
    return value


def utc_now() -> str:
    """Return the time by this machine's clock in the form 2026-01-02T03:04:05Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _refuse_other_keys(value: Any) -> None:
    # json.dumps would turn the key 1 into "1", and two different values would share a digest.
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"a JSON key must be a string, got {key!r}")
            _refuse_other_keys(item)
    elif isinstance(value, (list, tuple)) and not _SCALARS.issuperset(map(type, value)):
        for item in value:
            _refuse_other_keys(item)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not valid JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"number too large for a float: {text[:40]}")
    return number


def _whole(text: str) -> int:
    if len(text) > _DIGITS_MAX:
        raise ValueError(f"a whole number has {len(text)} digits; the limit is {_DIGITS_MAX}")
    return int(text)


def _refuse_depth(value: Any) -> None:
    level = _nested([value])
    for _ in range(DEPTH_MAX):
        level = [item for outer in level for item in _nested(outer.values() if isinstance(outer, dict) else outer)]
        if not level:
            return
    raise ValueError(f"JSON is nested deeper than {DEPTH_MAX} levels")


def _nested(values: Iterable[Any]) -> List[Any]:
    return [value for value in values if isinstance(value, (dict, list))]


def _unique_keys(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    result: Dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"JSON key {key!r} appears twice")
        result[key] = value
    return result
