"""Classes of one kind by name: built-in ones, and those of other packages through entry points."""

import glob
import importlib
import os
import sys
import threading
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Set, Tuple

from vitsearch_agent.errors import AgentError, InvalidRequest

IMPORTING = threading.RLock()
"""Hold it around an import inside a function that several threads of an agent may call.

Before 3.10 Python does not let one thread at a time import modules in a zip file: other threads can see a module before
its code has run. That happened to an agent that was started from its .pyz and got many requests at once.
"""


def installed_entry_points(group: str) -> Iterable[Tuple[str, str]]:
    """Yield (name, "module:Class") for each entry point in `group` of the installed packages.

    Of two packages with one name, the first on sys.path counts. This reads the files itself because
    importlib.metadata needs Python 3.8 and would add 1 MB to an agent that has 30 MB.
    """
    seen: Set[str] = set()
    for folder in sys.path:
        for path in sorted(glob.glob(os.path.join(glob.escape(folder or "."), "*.*-info", "entry_points.txt"))):
            package = os.path.basename(os.path.dirname(path)).partition("-")[0].lower()
            if package not in seen:
                seen.add(package)
                yield from _read_group(path, group)


def _read_group(path: str, group: str) -> Iterable[Tuple[str, str]]:
    try:
        with open(path, encoding="utf-8") as stream:
            lines = [line.strip() for line in stream]
    except (OSError, ValueError):
        return
    section = ""
    for line in lines:
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == group and "=" in line and not line.startswith("#"):
            name, _, target = line.partition("=")
            yield name.strip(), target.partition("[")[0].strip()  # drop the extras in brackets


def table(
    kind: str,
    group: str,
    builtin: Mapping[str, str],
    entry_points: Optional[Callable[[], Iterable[Tuple[str, str]]]] = None,
) -> Dict[str, str]:
    """Return name -> "module:Class" of all known classes; AgentError if two packages use the same name."""
    targets = dict(builtin)
    for name, target in installed_entry_points(group) if entry_points is None else entry_points():
        if targets.get(name, target) != target:
            raise AgentError(
                f"duplicate_{kind.replace(' ', '_')}",
                f"{kind} {name!r} is registered twice: {targets[name]} and {target}; uninstall one of the two packages",
            )
        targets[name] = target
    return targets


def load(kind: str, name: str, targets: Mapping[str, str]) -> Any:
    """Import the class with this name; InvalidRequest suggests the nearest name if it is unknown."""
    if name not in targets:
        import difflib  # imported here: an idle agent does not need it

        near = difflib.get_close_matches(name, targets, n=1, cutoff=0.4)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise InvalidRequest(f"{kind} {name!r} is unknown; {hint}known: {', '.join(sorted(targets))}")
    return loaded(targets[name])


def loaded(target: str) -> Any:
    """Import what "module:attribute" names. What is not needed would cost memory in each child and in an idle agent."""
    module, _, attribute = target.partition(":")
    with IMPORTING:
        return getattr(importlib.import_module(module), attribute)


def checked(plugin: Any, base: type) -> Any:
    """Return `plugin`, an object from another package's class; AgentError if it is not a `base`."""
    if not isinstance(plugin, base):
        kind = type(plugin)
        raise AgentError(
            f"not_a_{base.__name__.lower()}",
            f"{kind.__module__}:{kind.__qualname__} is not a subclass of {base.__name__}",
        )
    return plugin
