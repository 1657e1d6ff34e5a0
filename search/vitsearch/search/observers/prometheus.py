"""The observer of Prometheus: `vitsearch run SPACE --metrics 9464` serves the metrics of a study while it runs.

They are read from the database when Prometheus asks, so they are those of all runs of the study together, on every
machine. The address is on this machine only, unless a host is given: nobody has to log in. A request under a name
that is not one of this machine is refused.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from vitsearch.errors import ResourceError, StudyError
from vitsearch.search.observers.base import RunObserver, SilentRun
from vitsearch.search.observers.host_names import HostNames
from vitsearch.search.observers.metrics_server import MetricsServer
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger
from vitsearch.study.front import read_front
from vitsearch.study.lookup import opened_to_change
from vitsearch.study.status import status
from vitsearch.study.study import Study

if TYPE_CHECKING:
    from prometheus_client.core import Metric

LOOPBACK = "127.0.0.1"
TURN_S = 5.0
"""A request that has to wait longer than this for another one is answered without the study."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """`9464` or `HOST:9464`; port 0 is any free one. Raises `ResourceError`."""
        host, _, port = text.rpartition(":")
        if not port.isdecimal() or int(port) > 65535:
            raise ResourceError(f"metrics address {text!r} is not valid: write PORT or HOST:PORT, such as 9464")
        return cls(host.strip("[]") or LOOPBACK, int(port))


class Prometheus:
    """The setting is a port of the loopback address, or HOST:PORT."""

    def missing(self) -> str | None:
        try:
            import prometheus_client  # noqa: F401 - optional
        except ImportError:
            return "--metrics needs prometheus_client; run: pip install 'vitsearch[metrics]'"
        return None

    @contextmanager
    def observe(self, setting: str, space: SearchSpace, note: Callable[[str], None]) -> Iterator[RunObserver]:
        """Prometheus asks for what it wants to know: the run tells nothing."""
        with serve_metrics(setting, space) as url:
            note(f"metrics for Prometheus: {url}")
            yield SilentRun()


@contextmanager
def serve_metrics(text: str, space: SearchSpace) -> Iterator[str]:
    """Serve the metrics of a study at the address `text` during the block, and give the URL.

    Raises `ResourceError` where the address cannot be used.
    """
    from prometheus_client import CollectorRegistry, make_wsgi_app  # optional

    address = Address.parse(text)
    with ExitStack() as closing:
        collector = StudyCollector(f"{space.storage}#{space.study}", space.study)
        closing.callback(collector.close)
        registry = CollectorRegistry()
        registry.register(collector)
        try:
            addresses = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            bound = str(addresses[0][4][0]), address.port
            server = MetricsServer(bound, make_wsgi_app(registry), HostNames.of(address.host))
        except OSError as error:
            raise ResourceError(f"metrics address {address.host}:{address.port}: {error.strerror}") from error
        thread = threading.Thread(target=server.serve_forever, name="metrics", daemon=True)
        thread.start()
        closing.callback(thread.join)
        closing.callback(server.server_close)
        closing.callback(server.shutdown)
        host = f"[{address.host}]" if ":" in address.host else address.host
        yield f"http://{host}:{server.server_port}/metrics"


class StudyCollector:
    """What a registry of prometheus_client asks for metrics. It keeps the database open, and no number."""

    def __init__(self, where: str, study: str) -> None:
        self._where = where
        self._study = study
        self._turn = threading.Lock()
        self._open = ExitStack()
        self._reader: tuple[Study, Ledger] | None = None

    def collect(self) -> Iterator[Metric]:
        """Every metric as it is now. While the database does not answer there is only `vitsearch_database_up`."""
        values = self._read()
        yield _gauge("database_up", "Whether the database of the study answers.", self._study, float(bool(values)))
        if values:
            yield from _metrics(self._study, values)

    def close(self) -> None:
        """Close the database."""
        if self._turn.acquire(timeout=TURN_S):
            self._reader = None
            self._open.close()
            self._turn.release()

    def _read(self) -> dict[str, Any]:
        if not self._turn.acquire(timeout=TURN_S):
            return {}
        try:
            if self._reader is not None and not self._reader[0].is_there():  # it was deleted, with its database or not
                self._reader = None
                self._open.close()
            if self._reader is None:
                # SQLite shares the index of the log within a process: opened to read, the run could not write it
                self._reader = self._open.enter_context(opened_to_change(self._where))
            return figures(*self._reader)
        except StudyError:  # the run has just begun, and has not made it yet
            return {}
        except Exception as error:  # noqa: BLE001 - whatever the database raised, the next request opens it again
            logger.warning("the metrics could not be read: %s", error)
            self._reader = None
            self._open.close()
            return {}
        finally:
            self._turn.release()


def figures(study: Study, ledger: Ledger) -> dict[str, Any]:
    """The numbers behind the metrics: those of `vitsearch status`, and what is left of each budget (seconds), the
    plans in training, the hypervolume and the size of the front. `study` runs no trial itself."""
    front = read_front(study, ledger)
    state, search, runs = status(study, ledger, front), study.space().search, ledger.costs.runs(study.name)
    budgets = {
        "run": (search.budget_s, runs[-1].seconds if runs else 0.0),
        "trainers": (search.trainer_budget_s, state.trainer_seconds),
        "devices": (search.device_budget_s, state.device_seconds),
    }
    return vars(state) | {
        "claimed": study.trained_elsewhere(),
        "budget_left_s": {of: limit - spent for of, (limit, spent) in budgets.items() if limit is not None},
        "front_models": len(front.points),
        "hypervolume": front.hypervolume(state.reference_point or {}),
    }


def _metrics(study: str, values: Mapping[str, Any]) -> Iterator[Metric]:
    """Prometheus' names: the unit at the end, and `_total` for what only grows. What is not known yet is left out."""
    yield _family("trials_total", "Finished trials by outcome.", study, "outcome", values["outcomes"])
    wanted = values["wanted"]
    numbers = {
        "trials_open": ("Trials that run or wait.", values["open"]),
        "trainings_total": ("Trainings that have ended.", values["trained"]),
        "trainings_claimed": ("Trainings that are under way.", values["claimed"]),
        "trainings_left": (
            "Trainings that the study may still begin.",
            None if wanted is None else max(0, wanted - values["trained"] - values["claimed"]),
        ),
        "trainer_seconds_total": ("Wall time of stages on trainers.", values["trainer_seconds"]),
        "device_seconds_total": ("Wall time of stages on devices.", values["device_seconds"]),
        "reused_seconds_total": ("Wall time of stages whose results were there already.", values["reused_seconds"]),
        "run_seconds_total": ("Wall time of all runs.", values["wall_seconds"]),
        "busy_share": ("Share of the cores' time that stages used.", values["busy_share"]),
        "eta": ("Share of the time of the runs that a perfect schedule would have needed.", values["eta"]),
        "front_models": ("Models on the front.", values["front_models"]),
        "hypervolume": ("Hypervolume of the front; costs enter as logarithms.", values["hypervolume"]),
        "devices_waiting": ("Devices that a run waits for.", 0 if values["waits"] is None else 1),
    }
    for name, (text, value) in numbers.items():
        if value is not None:
            yield _gauge(name, text, study, value)
    yield _family("budget_left_seconds", "What is left of each budget.", study, "of", values["budget_left_s"])


def _gauge(name: str, text: str, study: str, value: float) -> Metric:
    """A metric with one value."""
    return _family(name, text, study, None, {"": value})


def _family(name: str, text: str, study: str, label: str | None, values: Mapping[str, float]) -> Metric:
    """A metric with one value for each value of `label`."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # optional

    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    family = kind(f"vitsearch_{name}", text, labels=["study", *([label] if label else [])])
    for of, value in values.items():
        family.add_metric([study, *([of] if label else [])], value)
    return family
