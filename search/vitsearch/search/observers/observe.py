"""Opens what a run reports to, and closes it when the run ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from vitsearch.errors import ResourceError
from vitsearch.pipeline.progress import Progress
from vitsearch.search.observers import OBSERVERS, BundleObserver, FinalFront, Observer
from vitsearch.search.observers.guarded import guarded
from vitsearch.search.observers.log_file import LogFile, new_log_file
from vitsearch.search.observers.progress_group import ProgressGroup
from vitsearch.search.observers.traces import traces
from vitsearch.space import SearchSpace


@dataclass(frozen=True)
class Observing:
    """What a run reports to beside its view.

    `log_file` takes its JSON lines (default: a new file in the logs folder of the study). `observers` are plugins
    by their names, each with its setting: `prometheus` a port of the loopback address or HOST:PORT, `mlflow` the
    URI of a tracking server or store.
    """

    log_file: Path | None = None
    observers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Observers:
    """Everything that is told of a run: `progress`, and `finished`, which asks for the front if anyone wants it."""

    progress: Progress
    finished: Callable[[Callable[[], FinalFront]], None]


@contextmanager
def observed(view: Progress, space: SearchSpace, logs: Path, observing: Observing) -> Iterator[Observers]:
    """`view` and everything else that is to be told of a run of `space`. `logs` is the logs folder of the study.

    Raises `ResourceError` for what is not installed or an address that cannot be used,
    `UnknownName` for an observer that does not exist, and
    `StoreError` for a log file that cannot be written.
    """
    plugins = [(name, usable(name), setting) for name, setting in observing.observers.items()]
    with ExitStack() as closing:
        log = closing.enter_context(LogFile.opened(observing.log_file or new_log_file(logs), space.study))
        progress = ProgressGroup(view, log, traces(space.study))
        runs = [closing.enter_context(guarded(*plugin, space, progress.note)) for plugin in plugins]

        def finished(read_front: Callable[[], FinalFront]) -> None:
            for run in runs:
                run.finished(read_front)

        yield Observers(ProgressGroup(progress, *runs), finished)


def usable(name: str) -> Observer:
    """An observer by its name. Raises `UnknownName`, and
    `ResourceError` with the command that installs what it lacks."""
    observer = OBSERVERS.get(name)()
    if reason := observer.missing():
        raise ResourceError(reason)
    return observer


def usable_for_bundles(name: str) -> BundleObserver:
    """The same for what takes bundles: `ResourceError` too for one that does not."""
    observer = usable(name)
    if not isinstance(observer, BundleObserver):
        raise ResourceError(f"observer {name!r} takes no bundles")
    return observer


def settings_of(pairs: Sequence[str] | None, **short: str | None) -> dict[str, str]:
    """The settings of observers by their names, from words `NAME=SETTING` and from options of their own.

    Raises `ResourceError` for another form, and for a name with two settings.
    """
    settings = {name: setting for name, setting in short.items() if setting is not None}
    for pair in pairs or ():
        name, equals, setting = pair.partition("=")
        if not (name and equals):
            raise ResourceError(f"observer {pair!r} is not valid: write NAME=SETTING, such as prometheus=9464")
        if settings.setdefault(name, setting) != setting:
            raise ResourceError(f"observer {name!r} has two settings, {settings[name]!r} and {setting!r}: give one")
    return settings
