"""Measure the cost of the driver per trial with stages that do nothing: vitsearch, a plain Optuna loop, Ray Tune.

    make bench            or    python benchmarks/driver_cost.py --trials 100

All three use SQLite, two objectives and the same sampler settings. Measured is the CPU time of the driver's process
(``time.process_time``), because wall time depends on the load of the machine. The results are in
``benchmarks/README.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vitsearch.pipeline.jobs import Workspace
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Silent
from vitsearch.search.driver import Driver, Session
from vitsearch.space import SearchSpace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Ledger, engine_options, tune
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Study
from vitsearch.study.suggest import make_sampler
from vitsearch.testing.fakes import FakeDevice, FakeRunner, fake_stage_config

HEADS = [0.0, 0.17, 0.33, 0.5, 0.67]
FFN = {"low": 0.0, "high": 0.9, "step": 0.05}


def space_for(folder: Path, trials: int) -> SearchSpace:
    ratios = [round(FFN["low"] + FFN["step"] * index, 2) for index in range(19)]
    return SearchSpace.from_json(
        {
            "study": "bench",
            "task": {"data": {"source": "builtin:fashion-mnist-14k"}},
            "objectives": {"accuracy": "maximize", "cpu_ms_p50": "minimize"},
            "limits": {"accuracy": {"max_drop": 1.0}},
            "space": {
                "backbone": [{"name": "fake_vit", "weights": "builtin"}],
                "resolution": [16, 20, 24, 28],
                "head_pruning_ratio": HEADS,
                "ffn_pruning_ratio": ratios,
                "quantization": ["fp32", "int8_dynamic"],
            },
            # Every plan is trained, so that every trial goes through all stages.
            "search": {"trials": trials, "candidates": 1, "margin": 1.0},
            "storage": f"sqlite:///{folder / 'bench.db'}",
        }
    )


def vitsearch(folder: Path, trials: int) -> int:
    """Run baseline, leaderboard, all stages of every trial and the last measurement; returns the number of trials."""
    space = space_for(folder, trials)
    ledger, study, me = Ledger.open(space.storage), Study.open(space), DriverId.current()
    workspace = Workspace({}, FileStore(folder / "artifacts"), FileStore(folder / "scratch"), folder)
    pipeline = Pipeline(fake_stage_config(), workspace, ledger, FakeRunner(), FakeDevice(), me, Silent())
    plans = PlanSpace(space, "local", lambda backbone, knob, value: None, lambda backbone: 28)
    asyncio.run(Driver(Session(space, study, ledger, pipeline, plans, me, 1, Silent())).run())
    return len(study.records())


def plain_optuna(folder: Path, trials: int) -> int:
    """Ask, four suggestions, tell: the minimum that any driver on Optuna does."""
    import optuna

    url = f"sqlite:///{folder / 'plain.db'}"
    storage = optuna.storages.RDBStorage(url, engine_kwargs=engine_options(url))
    tune(storage.engine)
    study = optuna.create_study(storage=storage, directions=["maximize", "minimize"], sampler=make_sampler("auto", 0))
    for _ in range(trials):
        trial = study.ask()
        heads, ffn = trial.suggest_float("heads", 0.0, 0.67), trial.suggest_float("ffn", 0.0, 0.9)
        trial.suggest_float("resolution", 16, 28)
        trial.suggest_categorical("precision", ["fp32", "int8_dynamic"])
        study.tell(trial, [1 - heads * ffn, 1 - heads])
    return trials


def ray_tune(folder: Path, trials: int) -> int:
    """Ray Tune with OptunaSearch, one CPU and one trial at a time; the CPU time is also that of the driver alone."""
    import optuna
    from ray import tune as ray_tune_
    from ray.tune.search import ConcurrencyLimiter
    from ray.tune.search.optuna import OptunaSearch

    url = f"sqlite:///{folder / 'tune.db'}"
    space = {
        "heads": ray_tune_.uniform(0.0, 0.67),
        "ffn": ray_tune_.uniform(0.0, 0.9),
        "resolution": ray_tune_.uniform(16, 28),
        "precision": ray_tune_.choice(["fp32", "int8_dynamic"]),
    }
    search = OptunaSearch(
        metric=["accuracy", "cost"],
        mode=["max", "min"],
        sampler=make_sampler("auto", 0),
        storage=optuna.storages.RDBStorage(url, engine_kwargs=engine_options(url)),
    )
    ray_tune_.Tuner(
        _no_op,
        param_space=space,
        tune_config=ray_tune_.TuneConfig(search_alg=ConcurrencyLimiter(search, 1), num_samples=trials),
        run_config=ray_tune_.RunConfig(storage_path=str(folder), verbose=0),
    ).fit()
    return trials


def _no_op(config: dict[str, float]) -> dict[str, float]:
    return {"accuracy": 1 - config["heads"] * config["ffn"], "cost": 1 - config["heads"]}


def cost_ms(run: Callable[[Path, int], int], trials: int) -> float:
    """CPU milliseconds of this process per trial, including the start-up of the database."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.process_time()
        done = run(Path(folder), trials)
        return (time.process_time() - started) * 1000 / done


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=100)
    parser.add_argument("--tune-trials", type=int, default=20, help="trials of Ray Tune, which is slow; 0 skips it")
    asked = parser.parse_args()
    print(f"{'driver':<34}{'trials':>8}{'CPU ms per trial':>18}")
    rows = [
        ("vitsearch, all stages no-op", vitsearch, asked.trials),
        ("plain Optuna ask and tell", plain_optuna, asked.trials),
    ]
    if asked.tune_trials:
        rows.append(("Ray Tune with OptunaSearch", ray_tune, asked.tune_trials))
    for name, run, trials in rows:
        print(f"{name:<34}{trials:>8}{cost_ms(run, trials):>18.1f}", flush=True)


if __name__ == "__main__":
    main()
