"""The errors that vitsearch raises for the user to read.

    VitsearchError                 exit 1   base class; the message is for the user
    ├── SpaceError                 exit 2   a space file or an override is not valid; lists every problem
    ├── DataError                  exit 2   the data set cannot be read or is not the study's
    ├── WeightsError               exit 2   starting weights cannot be found or do not fit
    ├── NetworkError               exit 2   a network that the user brings cannot be imported or read, or is another one
    ├── TaskError                  exit 2   a task that the user brings cannot be imported, is none or does not fit
    ├── ResourceError              exit 2   this machine or cluster lacks what was asked for
    ├── UnknownName                exit 2   no plugin, backbone, device or study has that name; names the nearest
    ├── QueryError                 exit 2   an expression that chooses models cannot be read
    ├── PlanError                  exit 2   a plan needs what a backbone or runtime does not support
    ├── StudyError                 exit 2   a study cannot be opened, resumed or copied as requested
    ├── BundleError                exit 2   what was given is no bundle, does not fit together, or must not be replaced
    ├── StoreError                 exit 1   a file or database of the study is missing, away or cannot be written
    ├── StudyDeleted               exit 1   somebody has deleted the study of this run
    ├── NotReady                   exit 1   several things that a run needs are away (2: some do not fit)
    ├── NoAnswer                   exit 1   something that a run needs does not answer
    ├── WorkersLost                exit 1   Ray itself has failed; run the same command again to resume
    ├── DeviceLost                 exit 1   a device does not answer or refuses; run the same command again to resume
    └── StageError                 exit 1   a stage of one trial failed (stage, kind, message)
        └── WorkerCrashed          exit 1   a stage ended its workers by a signal such as SIGSEGV

A message says what happened, where, which value was seen and what is allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

STAGE_WORDS = {
    "data": "preparing the data",
    "base": "training a base",
    "block_structure": "scoring heads and channels",
    "sensitivity": "testing each layer in int8",
    "logits": "computing the outputs of a base",
    "features": "computing the features of a teacher",
    "subset": "preparing images for the device",
    "screen": "exporting an untrained model",
    "proxy": "scoring before training",
    "train": "training",
    "train_int8": "training with int8 rounding",
    "export": "exporting",
    "measure": "measuring",
    "device_accuracy": "evaluating on the device",
    "ship": "evaluating on the test images",
    "prune": "pruning",
    "refit": "refitting",
    "tokens": "pruning tokens",
    "sparsity": "making weights sparse",
    "quantize": "quantizing",
}
"""What users read for the stage of a run, or for the part of a stage, that has this name in our code."""


class VitsearchError(Exception):
    """Base class of all errors; `str(error)` is what the user reads, `exit_code` what the command returns."""

    exit_code = 1


class SpaceError(VitsearchError):
    """A space file or an override is not valid.

    Attributes:
        where: The file.
        problems: One line for each problem.
    """

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
    """The data set cannot be read, or is not that of the study."""

    exit_code = 2


class WeightsError(VitsearchError):
    """Starting weights cannot be found, or do not fit the model."""

    exit_code = 2


class NetworkError(VitsearchError):
    """A network that the user brings cannot be imported or read, is none that can be searched, or has changed."""

    exit_code = 2


class TaskError(VitsearchError):
    """A task cannot be imported, is none, or does not fit the study."""

    exit_code = 2


class ResourceError(VitsearchError):
    """This machine or cluster lacks what was asked for."""

    exit_code = 2


class UnknownName(VitsearchError):
    """No plugin, backbone, metric, device or study has that name. The message has the nearest name and all others."""

    exit_code = 2

    def __init__(self, kind: str, name: str, valid_names: Iterable[str]) -> None:
        names = sorted(valid_names)
        self._arguments = (kind, name, tuple(names))
        hint = did_you_mean(name, names)
        super().__init__(f"no {kind} is called {name!r}{hint}{' Known' if hint else '; known'}: {', '.join(names)}")

    def __reduce__(self) -> tuple[type[UnknownName], tuple[str, str, tuple[str, ...]]]:
        return type(self), self._arguments


class QueryError(VitsearchError):
    """An expression that chooses models cannot be read."""

    exit_code = 2


class PlanError(VitsearchError):
    """A plan needs what its backbone or runtime does not support."""

    exit_code = 2


class StudyError(VitsearchError):
    """A study cannot be opened, resumed or copied as requested."""

    exit_code = 2


class BundleError(VitsearchError):
    """What was given is no bundle, does not fit together, or must not be replaced."""

    exit_code = 2


class StudyDeleted(VitsearchError):
    """Somebody has deleted the study of a run, or is about to: the run ends."""


class StoreError(VitsearchError):
    """A file or database of the study is missing, away or cannot be written."""


class NoAnswer(VitsearchError):
    """Something that a run needs does not answer."""


class NotReady(VitsearchError):
    """Several things that a run needs are away or do not fit. Nothing was started.

    Attributes:
        where: What was to be started.
        problems: An error for each.
    """

    def __init__(self, where: str, problems: Iterable[VitsearchError]) -> None:
        self.where = where
        self.problems = tuple(problems)
        self.exit_code = max(problem.exit_code for problem in self.problems)
        super().__init__(
            "\n".join([f"{where}: {len(self.problems)} problems", *(f"  {problem}" for problem in self.problems)])
        )

    def __reduce__(self) -> tuple[type[NotReady], tuple[str, tuple[VitsearchError, ...]]]:
        return type(self), (self.where, self.problems)


class WorkersLost(VitsearchError):
    """Ray itself has failed. The same command resumes."""


class DeviceLost(VitsearchError):
    """A device does not answer or refuses. The same command resumes."""


class StageError(VitsearchError):
    """A stage of one trial failed. The failure is final; a run retries it only on request.

    Attributes:
        stage: The stage (screen, proxy, train, export, measure, ...).
        kind: The class of the failure (crash, timeout, not_finite, parity, ...).
        message: The explanation for the user.
    """

    def __init__(self, stage: str, kind: str, message: str) -> None:
        self.stage = stage
        self.kind = kind
        self.message = message
        super().__init__(f"{STAGE_WORDS.get(stage, stage)} failed ({kind}): {message}")

    def about(self, model: str) -> StageError:
        """Name the model in the message.

        Args:
            model: How users know it.

        Returns:
            The same failure, about this model.
        """
        return type(self)(self.stage, self.kind, f"{model}: {self.message}")

    def __reduce__(self) -> tuple[type[StageError], tuple[str, str, str]]:
        return type(self), (self.stage, self.kind, self.message)


class WorkerCrashed(StageError):
    """Native code of a stage ended each worker that ran it. Every plan that needs this stage fails with it."""


def did_you_mean(name: str, valid_names: Iterable[str]) -> str:
    """Suggest a name for one that is unknown.

    Args:
        name: What was written.
        valid_names: All names that there are.

    Returns:
        `"; did you mean 'x'?"` when a name is similar in any case or begins like this, otherwise an empty string.
    """
    names = {valid_name.lower(): valid_name for valid_name in valid_names}
    near = difflib.get_close_matches(name.lower(), list(names), n=8, cutoff=0.6)
    near.sort(key=lambda valid_name: sorted(valid_name) != sorted(name.lower()))  # swapped letters before other ones
    if not near and len(name) > 1:
        near = [valid_name for valid_name in sorted(names, key=len) if valid_name.startswith(name.lower())]
    return f"; did you mean {names[near[0]]!r}?" if near else ""


def with_type(error: Exception) -> str:
    """The type of an error of code that is not ours, and the first line of what it says.

    Args:
        error: Any exception, for one line of a message of ours.

    Returns:
        One line of text; the type alone where the error says nothing.
    """
    kind = type(error).__name__
    return f"{kind}: {first_line(error)}" if str(error).strip() else kind


def first_line(error: Exception) -> str:
    """The first line of what an error says, or its type where it says nothing.

    Args:
        error: Any exception, for one line of a message of ours.

    Returns:
        One line of text, never empty.
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0]
