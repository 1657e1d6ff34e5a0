"""What a run has changed in the space of a study that went on with an edited file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from vitsearch.space.model import SearchSpace
from vitsearch.space.networks import NetworkSection, PythonSection
from vitsearch.space.section_base import StartingWeights

ELSEWHERE = ("study", "storage", "files", "resources")
"""Sections that say where a study lives and with how much it runs; they change nothing of what is searched."""


@dataclass(frozen=True)
class SpaceChange:
    """An edit of a space file."""

    time: str
    """When a run adopted the edited file (ISO 8601)."""
    trials: int
    """Trials that had finished by then."""
    lines: tuple[str, ...]
    """What changed, such as 'space.backbone: added levit_128s'."""

    @classmethod
    def between(cls, before: SearchSpace, now: SearchSpace, trials: int) -> SpaceChange | None:
        """None where nothing that is searched has changed."""
        lines = tuple(_lines(_searched(before), _searched(now)))
        return cls(datetime.now(UTC).isoformat(timespec="seconds"), trials, lines) if lines else None

    def describe(self) -> str:
        """In one line."""
        return "; ".join(self.lines)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"lines": list(self.lines)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SpaceChange:
        return cls(value["time"], value["trials"], tuple(value["lines"]))


def _searched(space: SearchSpace) -> dict[str, Any]:
    """Without what says where; of the devices only the names, of a backbone its weights where they are named."""
    listed = tuple(map(_as_searched, space.space.backbone))
    plain = space.model_copy(update={"space": space.space.model_copy(update={"backbone": listed})})
    searched = {name: value for name, value in plain.to_json().items() if name not in ELSEWHERE}
    return searched | {"devices": list(space.device_names)}


def _as_searched(backbone: StartingWeights) -> StartingWeights:
    """A backbone without what was found out about it and where its code lies."""
    if not isinstance(backbone, NetworkSection):
        return backbone
    where = {"folder": "."} if isinstance(backbone, PythonSection) else {}
    return backbone.model_copy(update={"facts": None, **where})


def _lines(before: Mapping[str, Any], now: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        old, new, key = before.get(name), now.get(name), f"{above}{name}"
        if old == new:
            continue
        if all(side is None or isinstance(side, Mapping) for side in (old, new)):
            yield from _lines(old or {}, new or {}, f"{key}.")
        elif isinstance(old, list) and isinstance(new, list):
            yield f"{key}: {_of_lists(old, new)}"
        else:
            yield f"{key}: {_shown(old)} -> {_shown(new)}"


def _of_lists(old: Sequence[Any], new: Sequence[Any]) -> str:
    changed = {
        "added": [value for value in new if value not in old],
        "removed": [value for value in old if value not in new],
    }
    texts = (f"{word} {', '.join(map(_shown, values))}" for word, values in changed.items() if values)
    return ", ".join(texts) or "in another order"


def _shown(value: Any) -> str:
    if isinstance(value, Mapping) and (name := value.get("name", value.get("backbone"))):
        weights = value.get("weights")
        return f"{name} ({weights})" if weights else str(name)
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{name}: {_shown(item)}" for name, item in value.items() if item is not None) + "}"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
