"""Parsing of YAML text into a tree of plain values with their locations.

A space file contains only data, as defined by YAML 1.2: `yes` and `1:30` are text, `5e-4` is a number. Tags,
anchors and aliases are refused, because they can run code, recurse, or expand a small file without limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import yaml

MAX_DEPTH = 24
MAX_NODES = 20_000
"""Keys and values of a file. The largest of ours has some hundred."""
Path = tuple[str | int, ...]
Scalar = str | int | float | bool | None


@dataclass(frozen=True)
class Location:
    """A line of a file. `file` is the name that the user gave; `line` counts from 1, and 0 is an override on the
    command line."""

    file: str
    line: int

    @property
    def is_override(self) -> bool:
        return self.line == 0


@dataclass(frozen=True)
class Node:
    """A value with its location; the children of mappings and lists are nodes too."""

    location: Location
    value: dict[str, Node] | list[Node] | Scalar

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def locations(self, path: Path = ()) -> dict[Path, Location]:
        """The location of this node and of all nodes below it, by key path."""
        by_path = {path: self.location}
        if isinstance(self.value, dict):
            for key, node in self.value.items():
                by_path |= node.locations((*path, key))
        elif isinstance(self.value, list):
            for index, node in enumerate(self.value):
                by_path |= node.locations((*path, index))
        return by_path


class Unreadable(Exception):
    """The text cannot be read as a space file. `line`, `column` and `message` are for the user."""

    def __init__(self, line: int, message: str, column: int | None = None) -> None:
        self.line = line
        self.message = message
        self.column = column
        super().__init__(message)


def parse(text: str, file: str, problems: list[tuple[Location, str]]) -> Node | None:
    """Parse the document into a tree; None when it is empty.

    Appends to `problems` the problems that leave the rest readable (tags, keys written twice). Raises
    `Unreadable` for the others.
    """
    try:
        loader = _Loader(text)
        try:
            root = loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.context_mark if _opened(error.problem) else error.problem_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        reason = _explained(error.problem or "unreadable")
        raise Unreadable(line, f"not valid YAML: {reason}", column) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise Unreadable(line, f"character {error.character!r} is not allowed in YAML") from None
    except (ValueError, OverflowError):  # PyYAML on "\UFFFFFFFF"
        raise Unreadable(1, "not valid YAML: a \\U escape does not name a character") from None
    problems += [(Location(file, line), message) for line, message in loader.refused]
    return _tree(root, Location(file, 1), problems) if root is not None else None


class _Loader(yaml.SafeLoader):
    """A loader that only composes nodes and constructs no objects; it leaves scalars as text for `_scalar`."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}

    def __init__(self, text: str) -> None:
        self.refused: list[tuple[int, str]] = []
        self._depth = self._nodes = 0
        super().__init__(text)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise Unreadable(line, "anchors (&) and aliases (*) are not allowed; write the value out")
        if event.tag is not None:
            self.refused.append((line, f"tag {event.tag!r} is not allowed; a space file contains only data"))
            event.tag = None
            event.implicit = (True, False) if isinstance(event, yaml.ScalarEvent) else True
        if self._depth == MAX_DEPTH:
            raise Unreadable(line, f"nested deeper than {MAX_DEPTH} levels")
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Unreadable(line, f"more than {MAX_NODES:,} keys and values, which no space file needs")
        self._depth += 1
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


_INT = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)(e[-+]?[0-9]{1,6})?|[-+]?\.inf|\.nan")
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None, "~": None, "": None}


def _tree(node: yaml.Node, location: Location, problems: list[tuple[Location, str]]) -> Node:
    if isinstance(node, yaml.MappingNode):
        return Node(location, _mapping(node, location.file, problems))
    if isinstance(node, yaml.SequenceNode):
        return Node(location, [_tree(item, _at(item, location.file), problems) for item in node.value])
    plain = isinstance(node, yaml.ScalarNode) and node.style is None
    return Node(location, _scalar(node.value) if plain else node.value)


def _mapping(node: yaml.MappingNode, file: str, problems: list[tuple[Location, str]]) -> dict[str, Node]:
    entries: dict[str, Node] = {}
    for key, value in node.value:
        location = _at(key, file)
        if not isinstance(key, yaml.ScalarNode):
            problems.append((location, "a key must be a plain word, not a list or a mapping"))
        elif key.value in entries:
            first = entries[key.value].location.line
            problems.append((location, f"key {key.value!r} is written twice; first on line {first}"))
        else:
            entries[key.value] = _tree(value, location, problems)
    return entries


def _scalar(text: str) -> Scalar:
    if text.lower() in _WORDS and (text in _WORDS or text in (text.capitalize(), text.upper())):
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text)
    lower = text.lower()
    return float(lower.replace(".inf", "inf").replace(".nan", "nan")) if _FLOAT.fullmatch(lower) else text


def _at(node: yaml.Node, file: str) -> Location:
    return Location(file, node.start_mark.line + 1)


def _opened(problem: str | None) -> bool:
    """Whether the error is best located where a list, mapping or quote opens, instead of where the parser stopped."""
    return problem is not None and problem.startswith(("expected ','", "found unexpected end of stream"))


_HINTS = {
    "mapping values are not allowed": "unexpected ':'; quote the value or check the indentation",
    r"'\t' that cannot start": "unexpected tab; indent with spaces",
    "could not find expected ':'": "a key has no ':'",
    "expected ',' or ']'": "a list is not closed with ']'",
    "expected ',' or '}'": "a mapping is not closed with '}'",
    "expected <block end>": "the indentation does not match any key above",
    "expected the node content": "a value is missing",
    "unexpected end of stream": "a quote is not closed",
    "but found another document": "a second document begins ('---'); a space file is one document",
}


def _explained(problem: str) -> str:
    return next((hint for words, hint in _HINTS.items() if words in problem), problem)
