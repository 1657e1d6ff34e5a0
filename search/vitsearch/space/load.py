"""Loading of a space file: the result is a SearchSpace, or one SpaceError with all problems.

text --nodes--> tree --files: extends, overrides; globs--> tree --sections--> SearchSpace --rules--> LoadedSpace
                                                    tree --parts--> SearchedValues --support--> values that nothing has
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any, NamedTuple, Protocol

from pydantic import ValidationError

from vitsearch.core import study_name
from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import Network, NetworkFacts
from vitsearch.errors import SpaceError
from vitsearch.space.checks.rules import find_problems
from vitsearch.space.checks.support import Supports, find_unsupported, unfit_outputs
from vitsearch.space.checks.valid_parts import SearchedValues, valid_data, valid_parts
from vitsearch.space.error_messages import problems_of
from vitsearch.space.files import Problems, override, read
from vitsearch.space.globs import Matching, expand
from vitsearch.space.model import SearchSpace
from vitsearch.space.nodes import Node, Path
from vitsearch.space.problems import Problem, SourceMap, report_lines
from vitsearch.space.task import Data
from vitsearch.tasks import Task

PLACEHOLDERS: dict[Path, Any] = {("objectives",): {}, ("space", "resolution"): 224}
"""What stands for keys that a file lacks, where the rest of it is judged all the same."""
MOST_REPAIRS = 5
"""A key without its invalid parts may be invalid as a whole then, and so on."""
NO_BUDGET = ("", "none", "null", "~")
"""What may be written for no budget, in lower case."""


class LoadedSpace(NamedTuple):
    """A space, the location of each of its values, and what it asks of backbones."""

    space: SearchSpace
    source: SourceMap
    searched: SearchedValues


class Draft(NamedTuple):
    """What a space file says, valid or not.

    `reading_problems` are those of reading it, `problems` those of its values; `space` is `None` where a value
    is invalid, and `rest` is then what is left without the invalid ones, if anything can be judged of that.
    `searched` and `data` have what is valid in itself.
    """

    source: SourceMap
    reading_problems: Problems
    problems: list[Problem]
    space: SearchSpace | None
    rest: SearchSpace | None
    searched: SearchedValues
    data: Data | None

    def require(self, more: Sequence[Problem] = ()) -> LoadedSpace:
        """The valid space; otherwise one `SpaceError` with every problem, those of `more` among them."""
        lines = self.lines(more)
        if lines or self.space is None:
            raise SpaceError(self.source.path, lines)
        return LoadedSpace(self.space, self.source, self.searched)

    def lines(self, more: Sequence[Problem] = ()) -> list[str]:
        """One line for each problem, those of `more` among them, in the order of the file."""
        located = [*self.reading_problems, *map(self.source.located, [*self.problems, *more])]
        return report_lines(self.source.path, located)


class JudgedSpace(NamedTuple):
    """A draft, what its backbones do not support, and warnings: the values of the file that an override made
    unusable."""

    draft: Draft
    unsupported: list[Problem]
    warnings: list[str]

    def require(self) -> LoadedSpace:
        return self.draft.require(self.unsupported)


def load(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> LoadedSpace:
    """Read `path` and the files that it extends, apply `KEY.PATH=VALUE` overrides, and check everything but what
    the backbones support. Globs of backbones stay as they are written.

    Raises one `SpaceError` with every problem.
    """
    return read_draft(path, overrides).require()


class BackboneLookup(Protocol):
    """What is asked about backbones; see `vitsearch.backbones.catalogue.Catalogue`."""

    @property
    def facts(self) -> Mapping[str, NetworkFacts]: ...

    def supports(self, name: str, knob: str, value: Any) -> str | None: ...

    def matching(self, glob: str, weights: str | None) -> tuple[str, ...]: ...

    def for_task(self, task: Task) -> BackboneLookup: ...


LookUp = Callable[[Sequence[tuple[Network, str]], Sequence[ImageSize]], BackboneLookup]
"""Looks at the networks of a file, each with its weights, at these resolutions."""


def judge(path: str | os.PathLike[str], overrides: Sequence[str], look_up: LookUp) -> JudgedSpace:
    """Read and check everything, and collect the problems. Raises `SpaceError` only for an unreadable file.

    A value that no backbone can use is a problem where the file says it. Where the file alone is right, and an override
    has made the value unusable, it is a warning.
    """
    matching = look_up((), ()).matching
    draft = read_draft(path, overrides, matching)
    backbones = look_up(draft.searched.networks(), draft.searched.resolutions())
    if draft.rest is not None:
        backbones = backbones.for_task(draft.rest.purpose)
        draft = draft._replace(rest=draft.rest.with_facts(backbones.facts))
    supports = backbones.supports
    problems, unused = find_unsupported(draft.searched, supports)
    if draft.space is not None:
        draft = draft._replace(space=(space := draft.space.with_facts(backbones.facts)))
        if not space.task_source.is_own_code:  # that reads any form
            problems = [*problems, *unfit_outputs(space.purpose, space.space.backbone)]
    overridden: list[Problem] = []
    if overrides and unused:
        overridden = _made_by_overrides(draft, unused, read_draft(path, (), matching), supports)
    wrong = [*problems, *(problem for problem in unused if problem not in overridden)]
    warnings = [f"{line}; it is left out" for line in draft.source.lines(overridden)]
    return JudgedSpace(draft, wrong, warnings)


def _made_by_overrides(draft: Draft, unused: list[Problem], alone: Draft, supports: Supports) -> list[Problem]:
    written = {problem.path for problem in find_unsupported(alone.searched, supports).unused}
    return [
        problem
        for problem in unused
        if not draft.source.location(problem.path).is_override and problem.path not in written
    ]


def check(loaded: LoadedSpace, supports: Supports) -> list[str]:
    """Lines for the user about unknown backbones and about values that no backbone of the file supports."""
    problems, unused = find_unsupported(loaded.searched, supports)
    return loaded.source.lines([*problems, *unused])


def read_draft(path: str | os.PathLike[str], overrides: Sequence[str] = (), matching: Matching | None = None) -> Draft:
    """Read a space file. Raises `SpaceError` only where the text itself is unreadable.

    Globs of backbones become the names that `matching` gives for them; without it they stay as they are.
    """
    file = FilePath(path)
    problems: Problems = []
    tree = override(read(file, problems), _with_open_trials(overrides), problems)
    if matching is None:
        return draft_of(tree, str(file), problems)
    tree, wrong = expand(tree, matching)
    draft = draft_of(tree, str(file), problems)
    return draft._replace(problems=[*draft.problems, *wrong], space=None) if wrong else draft


def _with_open_trials(overrides: Sequence[str]) -> list[str]:
    """A budget on the command line replaces the number of trainings of the file, unless that is given there too, or the
    budget is none."""
    values = {key.strip(): value.strip() for key, _, value in (text.partition("=") for text in overrides)}
    is_open = values.get("search.budget", "none").lower() not in NO_BUDGET and "search.trials" not in values
    return ["search.trials=null", *overrides] if is_open else [*overrides]


def draft_of(tree: Node, name: str, reading_problems: Problems) -> Draft:
    """The draft of a tree; `reading_problems` are the problems of reading it."""
    source = SourceMap(name, tree.locations())
    raw = tree.plain()
    _fill_in_folders(raw, FilePath(name).parent)
    if raw.get("study") is None:
        raw["study"] = study_name.suggested(FilePath(name).stem)
    space, problems = _validated(raw)
    if space is not None:
        problems += _moved_tokens(space, source)
        space = space if problems else space.with_task_facts()
    if not (has_task := all(problem.path != ("task", "kind") for problem in problems)):
        space = None
    rest = _rest(raw, has_task) if space is None else space
    return Draft(source, reading_problems, problems, space, rest, SearchedValues.of(raw), valid_data(raw))


def _fill_in_folders(raw: dict[str, Any], folder: FilePath) -> None:
    """Modules of networks and of a task are looked for beside the space file, unless it names another folder."""
    task = raw.get("task")
    if isinstance(task, dict) and ":" in str(task.get("kind", "")) and task.get("folder") is None:
        task["folder"] = os.path.abspath(folder)
    section = raw.get("space")
    listed = section.get("backbone") if isinstance(section, dict) else None
    for item in listed if isinstance(listed, list) else [listed]:
        if isinstance(item, dict) and "python" in item and item.get("folder") is None:
            item["folder"] = os.fspath(folder)


def _moved_tokens(space: SearchSpace, source: SourceMap) -> Iterator[Problem]:
    """Addresses and certificates that would get a token which another file names for others."""
    for name, device in space.devices.items():
        for board, section in device.boards_of(name).items():
            path = ("devices", name, "boards", board) if device.boards else ("devices", name)
            token = source.locations.get((*path, "token"))
            if section.token is None or token is None or token.is_override:
                continue
            where = f"of {token.file} line {token.line}; write url, fingerprint and token in one place"
            url, pin = (source.locations.get((*path, key)) for key in ("url", "fingerprint"))
            if url is not None and (url.is_override or url.file != token.file):
                yield Problem((*path, "url"), f"{section.url!r} is not the address beside the token {where}")
            if pin is not None and (pin.is_override or pin.file != token.file):
                yield Problem((*path, "fingerprint"), f"this is not the certificate beside the token {where}")


def _rest(raw: dict[str, Any], has_task: bool) -> SearchSpace | None:
    """What is left of a file without its invalid values; None where that is no space. No backbone is removed: the
    others would have other places."""
    raw = copy.deepcopy(raw)
    wrong: list[Path] = [] if has_task else [("task", "kind")]
    for _ in range(MOST_REPAIRS):
        for path in sorted(wrong, key=str, reverse=True):  # of a list the last items first
            _repair(raw, path)
        try:
            return SearchSpace.model_validate(raw)
        except ValidationError as error:
            wrong = [problem.at or problem.path for problem in problems_of(error)]
        if any(path[:2] == ("space", "backbone") and len(path) < 4 for path in wrong):
            return None
    return None


def _repair(raw: dict[str, Any], path: Path) -> None:
    """Remove what is at a path in place, or put its placeholder there if it is missing."""
    section: Any = raw
    for depth, part in enumerate(path, 1):
        if isinstance(section, list) != isinstance(part, int):  # a key spelt like a tag is missing in the path
            return
        has_part = part < len(section) if isinstance(part, int) else part in section
        if not has_part:
            section |= {part: PLACEHOLDERS[path]} if path in PLACEHOLDERS else {}
            return
        if depth == len(path) or not isinstance(section[part], dict | list):
            del section[part]
            return
        section = section[part]


def _validated(raw: dict[str, Any]) -> tuple[SearchSpace | None, list[Problem]]:
    space, problems = None, []
    try:
        space = SearchSpace.model_validate(raw)
    except ValidationError as error:
        problems = problems_of(error)
    return space, [*problems, *find_problems(valid_parts(raw))]
