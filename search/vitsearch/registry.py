"""A lazy registry of plugins: names refer to `"module:attribute"`, which is imported on first use."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any, Generic, TypeVar, cast

from vitsearch.errors import UnknownName, VitsearchError

T = TypeVar("T")


class Registry(Generic[T]):
    """Plugins of one kind: ours from a table, those of other packages from an entry-point group.

    A name has one target; a second registration with another target raises `VitsearchError`.
    """

    def __init__(self, kind: str, table: dict[str, str], group: str) -> None:
        self.kind = kind
        self._targets: dict[str, str] = {}
        for name, target in table.items():
            self.register(name, target)
        for point in metadata.entry_points(group=group):
            self.register(point.name, point.value)

    def register(self, name: str, target: str) -> None:
        """Add `name`; `target` is `"package.module:attribute"`."""
        if ":" not in target:
            raise VitsearchError(f"{self.kind} {name!r}: {target!r} is not a valid target; write 'module:attribute'")
        held = self._targets.setdefault(name, target)
        if held != target:
            raise VitsearchError(f"{self.kind} {name!r} is registered twice: {held!r} and {target!r}")

    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self._targets))

    def get(self, name: str) -> T:
        """Import and return a plugin. Raises `UnknownName`, with the nearest name, for an unknown one."""
        if name not in self._targets:
            raise UnknownName(self.kind, name, self._targets)
        module, _, attribute = self._targets[name].partition(":")
        found: Any = importlib.import_module(module)
        return cast(T, getattr(found, attribute))
