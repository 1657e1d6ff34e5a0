"""The samples of one split, read through timm's readers, with every unreadable sample reported.

timm's data sets replace an image that cannot be read by the next one, or skip it. This module reads the files behind
the data set instead, decodes them with `vitsearch.data.pixels`, and yields an `UnreadableImage` for such
an image.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from vitsearch.data.pixels import UNREADABLE, reason

_RAISED = (*UNREADABLE, KeyError, TypeError, AssertionError)


@dataclass(frozen=True)
class UnreadableImage:
    """Stands for an image that cannot be read."""

    why: str


@dataclass(frozen=True)
class Sample:
    """One sample of a split; `row` is its index there."""

    row: int
    content: bytes | Image.Image | UnreadableImage
    label: Any = None

    @property
    def name(self) -> str:
        return f"image {self.row}"


class OpenSplit(Protocol):
    """One split. `class_names` is empty for a set whose labels are only numbers; `stamp` changes with the files."""

    @property
    def where(self) -> str: ...
    @property
    def class_names(self) -> tuple[str, ...]: ...
    @property
    def stamp(self) -> list[Any]: ...
    def __len__(self) -> int: ...
    def read(self, rows: Sequence[int]) -> Iterator[Sample]:
        """Yield the samples at `rows`, which rise, in the same order on every call."""


@dataclass(frozen=True)
class MapSplit:
    """A split with random access: `get(row)` returns an image, its file or its path, and its label."""

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
                yield Sample(row, UnreadableImage(reason(error)))
            except (AssertionError, KeyError, TypeError):  # raised by timm's reader when the column is empty
                yield Sample(row, UnreadableImage("there is no image"))


def _content(value: Any) -> bytes | Image.Image:
    if isinstance(value, Image.Image):
        return value
    if isinstance(value, str):
        return Path(value).read_bytes()
    with value:
        return bytes(value.read())


@dataclass(frozen=True)
class StreamSplit:
    """A split that is read from its beginning: `start()` opens it again. timm logs the samples that it skips to the
    logger `log`."""

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
        with _logged_errors(self.log) as errors:
            readable = reported = 0
            for image, label in self._until_refused(errors):
                yield from _unreadable(errors[reported:], readable + reported)
                reported = len(errors)
                row = readable + reported
                if row in chosen:
                    yield Sample(row, image, label)
                readable += 1
                if row + 1 > last and last < self.count - 1:
                    return
            yield from _unreadable(errors[reported:], readable + reported)

    def _until_refused(self, errors: list[BaseException]) -> Iterator[tuple[Image.Image, Any]]:
        """Yield samples until the end, or until an error that timm does not skip but raises (after logging it)."""
        try:
            yield from self.start()
        except _RAISED as error:
            if error not in errors:
                errors.append(error)


def _unreadable(errors: Sequence[BaseException], first_row: int) -> Iterator[Sample]:
    for row, error in enumerate(errors, first_row):
        yield Sample(row, UnreadableImage(_why(error)))


def _why(error: BaseException) -> str:
    """Why a sample of a stream cannot be read. webdataset adds what it was reading to the arguments of an error."""
    if isinstance(error, KeyError):
        return f"it has no {error}"
    text = str(error.args[0]) if error.args else ""
    if "duplicate file name" in text:
        return f"its shard has two files {text.partition(':')[0]}"
    if text.startswith("invalid literal for int"):
        return f"its label is no whole number but {text.rpartition(': ')[2]}"
    if text.startswith("didn't find "):
        return "it has none of " + text.removeprefix("didn't find ").partition(" in ")[0]
    return reason(error)


@contextmanager
def _logged_errors(name: str) -> Iterator[list[BaseException]]:
    """Collect the errors that a logger reports, and keep its messages from the screen.

    webdataset hands errors to a `handler`, but timm's ReaderWds always installs its own, which skips the sample and
    logs the error as text. It logs while the exception is being handled, so the exception itself is at hand here and
    no text has to be parsed. A pipeline of our own would have to repeat timm's private decoding of keys and labels.
    """
    logger, errors = logging.getLogger(name), list[BaseException]()

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(sys.exception() or ValueError(record.getMessage()))

    collector, propagated = Collector(logging.WARNING), logger.propagate
    logger.addHandler(collector)
    logger.propagate = False
    try:
        yield errors
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagated
