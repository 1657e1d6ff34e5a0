"""Opens what a run reports to, and closes it when the run ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from vitsearch.pipeline.progress import Progress
from vitsearch.search.observers.log_file import LogFile, new_log_file
from vitsearch.search.observers.metrics import serve_metrics
from vitsearch.search.observers.mlflow_runs import FinalFront, mlflow_runs
from vitsearch.search.observers.together import Together
from vitsearch.search.observers.traces import traces
from vitsearch.space import SearchSpace


@dataclass(frozen=True)
class Observing:
    """What a run reports to beside its view.

    ``log_file`` takes its JSON lines (default: a new file in the logs folder of the study). ``metrics`` is where
    Prometheus reads: a port of the loopback address, or HOST:PORT. ``mlflow`` is the URI of a tracking server or store.
    """

    log_file: Path | None = None
    metrics: str | None = None
    mlflow: str | None = None


@dataclass(frozen=True)
class Observers:
    """Everything that is told of a run: ``progress``, and ``finished``, which asks for the front if anyone wants it."""

    progress: Progress
    finished: Callable[[Callable[[], FinalFront]], None]


@contextmanager
def observed(view: Progress, space: SearchSpace, logs: Path, observing: Observing) -> Iterator[Observers]:
    """``view`` and everything else that is to be told of a run of ``space``. ``logs`` is the logs folder of the study.

    Raises :class:`~vitsearch.errors.ResourceError` for what is not installed or an address that cannot be used, and
    :class:`~vitsearch.errors.StoreError` for a log file that cannot be written.
    """
    with ExitStack() as closing:
        log = closing.enter_context(LogFile.opened(observing.log_file or new_log_file(logs), space.study))
        progress = Together(view, log, traces(space.study))
        sent = None
        if observing.mlflow is not None:
            sent = closing.enter_context(mlflow_runs(observing.mlflow, space))
            progress = Together(progress, sent)
        if observing.metrics is not None:
            address = closing.enter_context(serve_metrics(observing.metrics, space))
            progress.note(f"metrics for Prometheus: {address}")

        def finished(read: Callable[[], FinalFront]) -> None:
            if sent is not None:
                sent.finished(read())

        yield Observers(progress, finished)
