"""Space files on disk: reading, `extends`, and overrides from the command line.

child.yaml  --extends-->  parent.yaml  --extends--> ...      mappings merge key by key; the child's value wins
overrides   KEY.PATH=VALUE, applied last                     null resets a key to its default
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path as FilePath

from vitsearch.errors import SpaceError, did_you_mean
from vitsearch.space.nodes import Location, Node, Unreadable, parse
from vitsearch.space.problems import report_lines

MAX_BYTES = 1_000_000
Problems = list[tuple[Location, str]]


def read(path: FilePath, problems: Problems) -> Node:
    """The merged tree of `path` and the files that it extends.

    Appends to `problems` the problems that leave the rest readable; raises `SpaceError` for the others.
    """
    chain: list[FilePath] = []
    node = _read_one(path, str(path), problems)
    merged = node
    while (parent := _extended(node, path, problems)) is not None:
        chain.append(path.resolve())
        extends = _entries(node)["extends"].location
        if not _is_file(parent):
            raise SpaceError(str(path), _lines(path, problems, extends, f"extends: {_no_file(parent)}"))
        if parent.resolve() in chain:
            names = " -> ".join(p.name for p in (*chain, parent))
            raise SpaceError(
                str(path), _lines(path, problems, extends, f"extends: the files extend each other in a circle: {names}")
            )
        path, node = parent, _read_one(parent, str(parent), problems)
        merged = _merged(node, merged)
    return Node(merged.location, {key: value for key, value in _entries(merged).items() if key != "extends"})


def _read_one(path: FilePath, name: str, problems: Problems) -> Node:
    if not _is_file(path):
        raise SpaceError(name, [_no_file(path)])
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise SpaceError(name, [f"the file is too large for a space file; allowed: up to {MAX_BYTES:,} bytes"])
        text = data.decode("utf-8-sig")
    except OSError as error:
        raise SpaceError(name, [f"cannot be read: {error.strerror}"]) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SpaceError(name, [f"line {line}: the text is not UTF-8"]) from None
    try:
        node = parse(text, name, problems)
    except Unreadable as error:
        where = f"line {error.line}, column {error.column}" if error.column else f"line {error.line}"
        raise SpaceError(name, [f"{where}: {error.message}"]) from None
    if node is None:
        raise SpaceError(name, ["the file is empty; it needs at least task, objectives and space"])
    if not isinstance(node.value, dict):
        kind = "a list" if isinstance(node.value, list) else "a single value"
        raise SpaceError(name, [f"line 1: a space file must be a mapping of sections, not {kind}"])
    return node


def _extended(node: Node, path: FilePath, problems: Problems) -> FilePath | None:
    entry = _entries(node).get("extends")
    if entry is None or entry.value is None:
        return None
    if not isinstance(entry.value, str) or "\0" in entry.value or not entry.value:
        raise SpaceError(str(path), _lines(path, problems, entry.location, "extends: must be the name of a file"))
    return path.parent / entry.value


def _is_file(path: FilePath) -> bool:
    """Whether there is a file that ends: a pipe or a device is none. False for a path that the system refuses."""
    try:
        return path.is_file()
    except OSError:  # a folder that may not be entered, a name that is too long
        return False


def _no_file(path: FilePath) -> str:
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return _missing(path)
    except (OSError, ValueError) as error:  # ValueError: a NUL character
        return f"the file {str(path)[:80]!r} cannot be read: {getattr(error, 'strerror', error)}"
    return f"{str(path)!r} is {'a folder' if stat.S_ISDIR(mode) else 'no file that ends'}, not a space file"


def _missing(path: FilePath) -> str:
    folder = path.parent
    names = sorted(entry.name for entry in folder.iterdir() if entry.is_file()) if folder.is_dir() else []
    yamls = [name for name in names if name.endswith((".yaml", ".yml"))]
    return f"the file {str(path)!r} does not exist{did_you_mean(path.name, yamls)}"


def _lines(path: FilePath, problems: Problems, location: Location, message: str) -> list[str]:
    return report_lines(str(path), [*problems, (location, message)])


def _entries(node: Node) -> dict[str, Node]:
    return node.value if isinstance(node.value, dict) else {}


def _merged(parent: Node, child: Node) -> Node:
    """Merge `child` over `parent`: mappings key by key, any other value from the child."""
    if not (isinstance(parent.value, dict) and isinstance(child.value, dict)):
        return child
    entries = dict(parent.value)
    for key, node in child.value.items():
        entries[key] = _merged(entries[key], node) if key in entries else node
    return Node(child.location, entries)


def override(root: Node, texts: Sequence[str], problems: Problems) -> Node:
    """Apply each text, such as `search.trials=10`, to the tree. The value is YAML; null removes the key."""
    location = Location(root.location.file, 0)
    for text in texts:
        key, equals, value = text.partition("=")
        parts = key.strip().split(".")
        if not equals or not all(parts):
            problems.append(
                (location, f"{key!r} is not a valid key path; write KEY.PATH=VALUE, such as search.trials=10")
            )
            continue
        try:
            parsed = parse(value, location.file, problems)
        except Unreadable as error:
            problems.append((location, f"{key}: {error.message}"))
            continue
        root = _with(root, parts, _at(parsed, location) if parsed else Node(location, None), problems, key)
    return root


def _with(node: Node, parts: list[str], value: Node, problems: Problems, key: str) -> Node:
    """`node` with `value` at the path `parts`; `key` is that path as the user typed it."""
    if not parts:
        return value
    if isinstance(node.value, list):
        problems.append((value.location, f"{key}: an item of a list cannot be overridden; give the whole list"))
        return node
    entries = dict(_entries(node))
    child = entries.get(parts[0], Node(value.location, None))
    entries[parts[0]] = _with(child, parts[1:], value, problems, key)
    if len(parts) == 1 and value.value is None:
        del entries[parts[0]]
    return Node(node.location if isinstance(node.value, dict) else value.location, entries)


def _at(node: Node, location: Location) -> Node:
    """A copy of `node` in which every value has the location `location`."""
    if isinstance(node.value, dict):
        return Node(location, {key: _at(child, location) for key, child in node.value.items()})
    if isinstance(node.value, list):
        return Node(location, [_at(child, location) for child in node.value])
    return Node(location, node.value)
