"""A lazy registry of plugins: names refer to `"module:attribute"`, which is imported on first use."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from importlib import metadata
from typing import Any, Generic, TypeVar, cast

from vitsearch.errors import UnknownName, VitsearchError

T = TypeVar("T")


class Registry(Generic[T]):
    """Plugins of one kind: ours from a table, those of other packages from an entry-point group.

    Args:
        kind: What its plugins are called in messages.
        table: Our plugins: name -> `"package.module:attribute"`.
        group: The entry-point group of other packages; None where they add none.

    Raises:
        VitsearchError: A name has two targets, or a target is not of this form.
    """

    def __init__(self, kind: str, table: Mapping[str, str], group: str | None = None) -> None:
        self.kind = kind
        self._targets: dict[str, str] = {}
        for name, target in table.items():
            self.register(name, target)
        for point in metadata.entry_points(group=group) if group is not None else ():
            self.register(point.name, point.value)

    def register(self, name: str, target: str) -> None:
        """Add a plugin. Nothing is imported.

        Args:
            name: The name that users write.
            target: `"package.module:attribute"`.

        Raises:
            VitsearchError: The name has another target already, or the target is not of this form.
        """
        if ":" not in target:
            raise VitsearchError(f"{self.kind} {name!r}: {target!r} is not a valid target; write 'module:attribute'")
        registered = self._targets.setdefault(name, target)
        if registered != target:
            raise VitsearchError(f"{self.kind} {name!r} is registered twice: {registered!r} and {target!r}")

    def names(self) -> tuple[str, ...]:
        """List all plugins.

        Returns:
            Their names, sorted.
        """
        return tuple(sorted(self._targets))

    def get(self, name: str) -> T:
        """Import a plugin.

        Args:
            name: Under which it is registered.

        Returns:
            The attribute that its target names.

        Raises:
            UnknownName: There is none of this name; the message has the nearest one.
        """
        if name not in self._targets:
            raise UnknownName(self.kind, name, self._targets)
        module, _, attribute = self._targets[name].partition(":")
        plugin_module: Any = importlib.import_module(module)
        return cast(T, getattr(plugin_module, attribute))


def loaded(target: str) -> Any:
    """Import what a text names.

    Args:
        target: the importable object, as `"module:attribute"`.

    Returns:
        The object.
    """
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)
