"""The samples of one split, read through timm's readers, with none replaced and none left out unsaid.

timm's data sets put the next image in place of one that cannot be read, or leave it out. Here it is
kept and told: the files behind the data set are read, and decoded by :mod:`.pixels` like everything else.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from vitsearch.data.pixels import UNREADABLE, reason

_REFUSALS = (*UNREADABLE, KeyError, TypeError, AssertionError)
_HANDLED = re.compile(r"^Handling webdataset error \((.*)\)\. Ignoring\.$", re.DOTALL)


@dataclass(frozen=True)
class Broken:
    """In place of an image that cannot be read."""

    why: str


@dataclass(frozen=True)
class Sample:
    """``row`` is the place in the split."""

    row: int
    content: bytes | Image.Image | Broken
    label: Any = None

    @property
    def name(self) -> str:
        return f"image {self.row}"


class OpenSplit(Protocol):
    """One split. ``class_names`` is empty where labels are bare numbers; ``stamp`` changes with the files."""

    @property
    def where(self) -> str: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def stamp(self) -> list[Any]: ...
    def __len__(self) -> int: ...
    def read(self, rows: Sequence[int]) -> Iterator[Sample]:
        """The samples at ``rows`` (rising), in the same order every time."""


@dataclass(frozen=True)
class MapSplit:
    """``get(row)`` gives what can be read as an image, and its label."""

    where: str
    class_names: tuple[str, ...]
    stamp: list[Any]
    count: int
    get: Callable[[int], tuple[Any, Any]]

    def __len__(self) -> int:
        return self.count

    def read(self, rows: Sequence[int]) -> Iterator[Sample]:
        for row in rows:
            try:
                content, label = self.get(row)
                yield Sample(row, _content(content), label)
            except UNREADABLE as error:
                yield Sample(row, Broken(reason(error)))
            except (AssertionError, KeyError, TypeError):  # timm's reader, where the column holds nothing
                yield Sample(row, Broken("there is no image"))


def _content(given: Any) -> bytes | Image.Image:
    if isinstance(given, Image.Image):
        return given
    if isinstance(given, str):
        return Path(given).read_bytes()
    with given:
        return bytes(given.read())


@dataclass(frozen=True)
class StreamSplit:
    """``start()`` begins anew; what is left out on the way is written to the logger of ``log``."""

    where: str
    stamp: list[Any]
    count: int
    start: Callable[[], Iterator[tuple[Image.Image, Any]]]
    log: str
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return self.count

    def read(self, rows: Sequence[int]) -> Iterator[Sample]:
        chosen, last = frozenset(rows), max(rows, default=-1)
        with _logged(self.log) as problems:
            told = row = 0
            for image, label in self._until_refused(problems):
                yield from (Sample(row + told + more, Broken(why)) for more, why in enumerate(problems[told:]))
                told = len(problems)
                if row + told in chosen:
                    yield Sample(row + told, image, label)
                row += 1
                if row + told > last and last < self.count - 1:
                    return
            yield from (Sample(row + told + more, Broken(why)) for more, why in enumerate(problems[told:]))

    def _until_refused(self, problems: list[str]) -> Iterator[tuple[Image.Image, Any]]:
        """To some samples timm objects so much that it ends there."""
        try:
            yield from self.start()
        except _REFUSALS as error:
            problems.append(str(error) or type(error).__name__)


@contextmanager
def _logged(name: str) -> Iterator[list[str]]:
    """The warnings of a logger, kept from the screen."""
    logger, messages = logging.getLogger(name), list[str]()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(_HANDLED.sub(r"\1", record.getMessage()))

    collector, propagated = Collector(logging.WARNING), logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagated
