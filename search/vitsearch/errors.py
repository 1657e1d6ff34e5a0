"""Every error that vitsearch raises for a person to read.

    VitsearchError                 exit 1   the message is the user's message
    ├── SpaceError                 exit 2   a space file (or an override) is wrong; lists every problem at once
    ├── DataError                  exit 2   the data set cannot be read or is not the study's
    ├── WeightsError               exit 2   starting weights cannot be found or do not fit
    ├── ResourceError              exit 2   this machine or cluster lacks what was asked for
    ├── UnknownName                exit 2   no plugin, backbone or study bears that name (nearest one told)
    ├── PlanError                  exit 2   a plan asks for what a backbone or runtime cannot do
    ├── StudyError                 exit 2   a study cannot be opened or resumed as asked
    ├── StoreError                 exit 1   an artifact is missing or damaged
    ├── WorkersLost                exit 1   Ray itself has failed; the same command goes on
    ├── DeviceLost                 exit 1   a device does not answer or refuses; the same command goes on
    └── StageError                 exit 1   a stage of one trial failed by itself (stage, kind, message)

A message says what happened, where, which value was seen and what is allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class VitsearchError(Exception):
    """Base of the tree; ``str(error)`` is what the user reads."""

    exit_code = 1


class SpaceError(VitsearchError):
    """All problems of one space file; ``problems`` holds one line each."""

    exit_code = 2

    def __init__(self, where: str, problems: Iterable[str]) -> None:
        self.where = where
        self.problems = tuple(problems)
        count = len(self.problems)
        head = f"{where}: {count} problem{'s' if count != 1 else ''}"
        super().__init__("\n".join([head, *(f"  {problem}" for problem in self.problems)]))

    def __reduce__(self) -> tuple[type[SpaceError], tuple[str, tuple[str, ...]]]:
        return type(self), (self.where, self.problems)


class DataError(VitsearchError):
    exit_code = 2


class WeightsError(VitsearchError):
    exit_code = 2


class ResourceError(VitsearchError):
    exit_code = 2


class UnknownName(VitsearchError):
    exit_code = 2

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        self._asked = (kind, name, tuple(names))
        super().__init__(f"no {kind} is called {name!r}{did_you_mean(name, names)}; known: {', '.join(names)}")

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, tuple[str, ...]]]:
        return type(self), self._asked


class PlanError(VitsearchError):
    exit_code = 2


class StudyError(VitsearchError):
    exit_code = 2


class StoreError(VitsearchError):
    pass


class WorkersLost(VitsearchError):
    pass


class DeviceLost(VitsearchError):
    pass


class StageError(VitsearchError):
    """A stage of one trial failed by itself: it is not repeated unless asked for.

    ``stage`` is where (screen, signal, train, export, measure), ``kind`` a short class
    (crash, timeout, not_finite, parity, ...), ``message`` what a person reads.
    """

    def __init__(self, stage: str, kind: str, message: str) -> None:
        self.stage = stage
        self.kind = kind
        self.message = message
        super().__init__(f"{stage} failed ({kind}): {message}")

    def __reduce__(self) -> tuple[type[StageError], tuple[str, str, str]]:
        return type(self), (self.stage, self.kind, self.message)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean 'x'?"`` when a known name is near, else an empty string."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else ""
