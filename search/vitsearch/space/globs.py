"""Globs of names under `space.backbone`, such as `mobilenetv4_conv_*`: replaced by the names that they match before the
file is judged, so that a study stores names, and a newer timm is an edit of the space like any other.

Which names there are is asked through a function, so that this package depends on no backbone and imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from vitsearch.core.policy import POLICY
from vitsearch.errors import UnknownName
from vitsearch.space.nodes import Node, Path
from vitsearch.space.problems import Problem

Matching = Callable[[str, str | None], tuple[str, ...]]
"""`matching(glob, weights)` returns the names of models that match and can have these weights (None: those that a name
has by default), sorted. Raises `UnknownName`, with near names, where there are none."""
BACKBONE: Path = ("space", "backbone")
SIGNS = "*?["


def is_glob(name: str) -> bool:
    """Whether a name stands for all names that match it."""
    return any(sign in name for sign in SIGNS)


def expand(tree: Node, matching: Matching) -> tuple[Node, list[Problem]]:
    """Replace each glob of backbones by the names that match it.

    A name that is written out too, or that an earlier glob has given, is left out. Other keys beside a glob hold for
    each of its names.

    Args:
        tree: A space file.
        matching: Gives the names that match a glob.

    Returns:
        The tree, in which the names have the location of their glob, and the problems of globs, which stay in it.
    """
    section = tree.value.get("space") if isinstance(tree.value, dict) else None
    backbone = section.value.get("backbone") if section is not None and isinstance(section.value, dict) else None
    if backbone is None:
        return tree, []
    items = backbone.value if isinstance(backbone.value, list) else [backbone]
    names = [_name(item) for item in items]
    if not any(map(is_glob, names)):
        return tree, []
    listed = {name for name in names if not is_glob(name)}
    expanded: list[Node] = []
    problems: list[Problem] = []
    for index, (item, name) in enumerate(zip(items, names, strict=True)):
        if not is_glob(name):
            expanded.append(item)
            continue
        matches, wrong = _matches(item, matching)
        if wrong is not None:
            path, at = ((*BACKBONE, index), (*BACKBONE, len(expanded))) if items is backbone.value else (BACKBONE, None)
            problems.append(Problem(path, wrong, at))
            expanded.append(item)
            continue
        expanded += [_named(item, match) for match in matches if match not in listed]
        listed.update(matches)
    return _with_backbones(tree, replace(backbone, value=expanded)), problems


def _matches(item: Node, matching: Matching) -> tuple[tuple[str, ...], str | None]:
    """The names that match a glob, and what is wrong with them."""
    glob, most = _name(item), POLICY.backbones.most_of_a_glob
    weights = item.value.get("weights") if isinstance(item.value, dict) else None
    source = weights.value if weights is not None and isinstance(weights.value, str) else None
    try:
        names = matching(glob, source)
    except UnknownName as error:
        return (), str(error)
    if len(names) > most:
        return names, f"{glob!r} matches {len(names)} backbones; allowed: up to {most}, write a narrower glob"
    if len(names) > 1 and source is not None and source.startswith("file:"):
        return names, (
            f"weights {source!r} are those of one model, and {glob!r} matches {len(names)}: "
            f"{_some(names)}; name the one that they belong to"
        )
    return names, None


def _some(names: tuple[str, ...], shown: int = 3) -> str:
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more} more" if more > 0 else "")


def _name(item: Node) -> str:
    name = item.value.get("name") if isinstance(item.value, dict) else item
    return name.value if name is not None and isinstance(name.value, str) else ""


def _named(item: Node, name: str) -> Node:
    """The item of a glob, for one of its names."""
    if not isinstance(item.value, dict):
        return replace(item, value=name)
    return replace(item, value=item.value | {"name": replace(item.value["name"], value=name)})


def _with_backbones(tree: Node, backbone: Node) -> Node:
    assert isinstance(tree.value, dict)
    section = tree.value["space"]
    assert isinstance(section.value, dict)
    return replace(tree, value=tree.value | {"space": replace(section, value=section.value | {"backbone": backbone})})
