"""The keys of a plan file as those of a space file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Any

from vitsearch.core.plan import Options
from vitsearch.core.targets import TARGETS
from vitsearch.errors import PlanError
from vitsearch.space.files import Problems
from vitsearch.space.nodes import Location, Node, Path, Unreadable, parse
from vitsearch.space.problems import Problem, SourceMap

STDIN = "-"
NAME, WEIGHTS = ("space", "backbone", "name"), ("space", "backbone", "weights")
RENAMED: dict[Path, Path] = {
    ("backbone",): NAME,
    ("backbone", "name"): NAME,
    ("backbone", "weights"): WEIGHTS,
    ("weights",): WEIGHTS,
    ("compression", "scope"): ("space", "pruning_scope"),
    ("deployments", 0, "runtime"): ("space", "backend"),
    ("deployments", 0, "precision"): ("space", "quantization"),
    ("deployments", 0, "provider"): ("space", "provider"),
    ("deployments", 0, "batch"): ("space", "batch"),
    ("deployments", 0, "quantized_ops"): ("space", "quantized_ops"),
    ("deployments", 0, "threads"): ("space", "threads"),
    ("deployments", 0, "streams"): ("space", "streams"),
    ("recipe", "seed"): ("search", "seed"),
}
"""A path in a plan file -> that of a space file, where the last words differ."""
_LISTED: dict[Path, int | None] = {("space", "token_pruning_at"): None, ("space", "resolution"): 2}
"""Values that are lists themselves, so that a space file has them in a list: each with the number of its items where it
has no other."""
OF_BACKBONE = ("backbone", "preprocessing")
"""Sections of a plan whose keys a space file has beside the name of a backbone."""


@dataclass(frozen=True)
class PlanValues:
    """Every value of a plan file, by its path there. `problems` are those of other keys. `device` and `options`
    (of the runtime) are what a space file does not say of a plan."""

    source: SourceMap
    problems: Problems
    values: dict[Path, Node]
    device: str | None
    options: Options

    def has(self, knob: str) -> bool:
        """Whether the file says the value of a knob, or the `weights`."""
        path = {"backbone": NAME, "weights": WEIGHTS}.get(knob, ("space", knob))
        return path in map(space_path, self.values)

    @property
    def backbone(self) -> str | None:
        """The name of the backbone, if the file has one."""
        named = [node.value for own, node in self.values.items() if space_path(own) == NAME]
        return named[0] if named and isinstance(named[0], str) else None

    @property
    def runtime(self) -> str | None:
        """The runtime, if the file has a valid one."""
        named = [node.value for own, node in self.values.items() if space_path(own) == ("space", "backend")]
        return named[0] if named and isinstance(named[0], str) and named[0] in TARGETS else None

    def over(self, base: dict[str, Any]) -> Node:
        """The space file `base` with the values of the plan."""
        root = _node(base, self.source.location(()))
        for own, node in self.values.items():
            path = space_path(own)
            _put(root, path, _one_list(node) if path in _LISTED and _is_flat(node, _LISTED[path]) else node)
        return root

    def own(self, problem: Problem) -> Problem:
        """A problem of `over` at its path in the plan file."""
        return problem._replace(path=self._own_path(problem.path), at=problem.at and self._own_path(problem.at))

    def _own_path(self, path: Path) -> Path:
        targets = {space_path(own): own for own in self.values}
        for length in range(len(path), 0, -1):
            if path[:length] in targets:
                return (*targets[path[:length]], *path[length:])
        if path[:2] == NAME[:2]:
            return ("weights",) if path == WEIGHTS else ("backbone",)
        if path[:2] == ("task", "fine_tune"):
            return ("recipe", *path[2:])
        return path[1:] if path[0] == "space" else path


def read_words(path: FilePath) -> PlanValues:
    """The values in the plan file `path` (`-`: standard input), YAML or JSON.

    Raises `PlanError` for a file that holds no plan.
    """
    name = "standard input" if str(path) == STDIN else str(path)
    problems: Problems = []
    tree = _plan_in(_tree(path, name, problems), name)
    values = dict(_values(tree, problems))
    device, options = (values.pop(("deployments", 0, key), None) for key in ("device", "options"))
    locations = {own: node.location for own, node in values.items()} | {(): tree.location}
    return PlanValues(
        SourceMap(name, locations),
        problems,
        values,
        None if device is None else str(device.value),
        () if options is None else tuple(sorted(options.plain().items())),
    )


def space_path(own: Path) -> Path:
    """The path in a space file of a path in a plan file."""
    sections: dict[str | int, Path] = {"recipe": ("task", "fine_tune"), **dict.fromkeys(OF_BACKBONE, NAME[:-1])}
    return RENAMED.get(own, (*sections.get(own[0], ("space",)), own[-1]))


def _tree(path: FilePath, name: str, problems: Problems) -> Node:
    try:
        text = sys.stdin.read() if str(path) == STDIN else path.read_text(encoding="utf-8-sig")
        tree = parse(text, name, problems)
    except FileNotFoundError:
        raise PlanError(f"{name}: the file does not exist") from None
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError(f"{name}: cannot be read ({error})") from None
    except Unreadable as error:
        raise PlanError(f"{name}: line {error.line}: {error.message}") from None
    if tree is None or not isinstance(tree.value, dict):
        raise PlanError(f"{name}: a plan must be a mapping of keys, such as backbone: vit_fmnist_p4")
    return tree


def _plan_in(tree: Node, name: str) -> Node:
    """The plan itself: the whole file, or the plan of one point of a front."""
    entries = dict(_entries(tree))
    points = entries.get("points")
    if points is not None and isinstance(points.value, list):
        raise PlanError(f"{name}: this is a whole front (points: {len(points.value)}); copy one point, or its plan")
    plan = entries.get("plan")
    return tree if plan is None or not isinstance(plan.value, dict) else plan


def _values(tree: Node, problems: Problems) -> Iterator[tuple[Path, Node]]:
    """Every value with its path. Empty values count as left out."""
    for key, node in _entries(tree):
        inside: list[tuple[Path, Node]] = [((key,), node)]
        if key == "deployments":
            inside = list(_deployment(node, problems))
        elif key in ("compression", "recipe", *OF_BACKBONE) and isinstance(node.value, dict):
            inside = [((key, inner), child) for inner, child in _entries(node)]
        elif key in ("compression", "recipe", "preprocessing"):
            problems.append((node.location, f"{key}: must be a mapping, not {node.plain()!r}"))
            continue
        yield from ((own, child) for own, child in inside if child.value not in (None, [], {}))


def _deployment(node: Node, problems: Problems) -> Iterator[tuple[Path, Node]]:
    listed = node.value
    if not isinstance(listed, list) or len(listed) != 1 or not isinstance(listed[0].value, dict):
        problems.append((node.location, "deployments: must be a list of one mapping"))
        return
    for key, child in _entries(listed[0]):
        value, allowed = child.plain(), None
        if key == "options" and not (isinstance(value, dict) and all(isinstance(v, str | int) for v in value.values())):
            allowed = "a mapping of words and whole numbers"
        if allowed is not None:
            problems.append((child.location, f"deployments[0].{key}: {value!r} is not supported; allowed: {allowed}"))
        elif key == "batch":
            yield ("deployments", 0, key), Node(child.location, "open" if value is None else str(value))
        else:
            yield ("deployments", 0, key), child


def _entries(node: Node) -> Iterator[tuple[str, Node]]:
    if isinstance(node.value, dict):
        yield from node.value.items()


def _node(value: Any, location: Location) -> Node:
    if isinstance(value, dict):
        return Node(location, {key: _node(item, location) for key, item in value.items()})
    return Node(location, [_node(item, location) for item in value] if isinstance(value, list) else value)


def _put(root: Node, path: Path, value: Node) -> None:
    """Set the value at `path`, in place; sections on the way are made."""
    for part in path[:-1]:
        assert isinstance(root.value, dict)  # a path in a space file leads through sections
        root = root.value.setdefault(str(part), Node(value.location, {}))
    assert isinstance(root.value, dict)
    root.value[str(path[-1])] = value


def _is_flat(node: Node, count: int | None) -> bool:
    """Whether a value is one list, of so many items if that is known, and no list of lists."""
    items = node.value
    if not isinstance(items, list) or any(isinstance(item.value, list) for item in items):
        return False
    return count in (None, len(items))


def _one_list(node: Node) -> Node:
    """A list of blocks, or height and width, as a list of one list, which is how a space file writes it."""
    return Node(node.location, [node])
