"""A whole search on one of our own tables: the driver of `vitsearch run`; stages and device look their answers up.

    python benchmarks/own_table_search.py --seeds 10
    python benchmarks/own_table_search.py --seeds 10 --wrong down_02 --lines FILE
    python benchmarks/own_table_search.py --oracle
    python benchmarks/own_table_search.py --table second

Asking, screening, forecasting, choosing and ending are the product's own: only the stages and the device are not.
Shares count the values of the table: of what can be gained in hypervolume over the leaderboard. `at 7` and `at 14` are
those after so many trainings, `end` that at the search's own end, `late` the trainings after the last one that gained
.001 of it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import statistics
import tempfile
import time
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import optuna
from own_table_data import deployment_of
from own_table_facts import (
    OBJECTIVES,
    SCREEN_DEVIATION,
    every_parameters,
    facts,
    metrics_of,
    table,
    true_loss,
)
from own_table_plans import TABLES, choose, chosen, plans_of_table, text_of
from own_table_rows import Built
from own_table_structures import structures

from vitsearch import stages
from vitsearch.core.figures import Z_95, Estimate
from vitsearch.core.pareto import Loss, hypervolume, loss
from vitsearch.core.plan import Deployment, Plan
from vitsearch.core.record import Record
from vitsearch.errors import StageError
from vitsearch.pipeline.context import StageContext
from vitsearch.pipeline.pipeline import Pipeline
from vitsearch.pipeline.progress import Silent
from vitsearch.search.driver import Driver, SearchEnd
from vitsearch.search.final_pass import FinalPass
from vitsearch.search.forecast.quality_model import QualityModel, RefittedModel
from vitsearch.search.session import Session
from vitsearch.space import SearchSpace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.files import FileStore
from vitsearch.storage.ledger import Ledger
from vitsearch.study.identity import adopt_data, adopt_judge
from vitsearch.study.plan_pool import PlanParameters
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Study
from vitsearch.testing.fakes import (
    DATA,
    FakeDevice,
    FakeRunner,
    fake_judged,
    fake_measurement,
    fake_stage_config,
    fake_times,
)
from vitsearch_agent.base.canonical_json import digest
from vitsearch_agent.wire.protocol import Measurement, MeasureProtocol

TRAINING_DEVIATION = 0.003
"""How far a training of one search lies from the table: what a second training of the same plan differs by."""


def drawn(*words: object) -> float:
    """A standard normal number that follows from these words."""
    return float(np.random.default_rng([zlib.crc32(str(word).encode()) for word in words]).standard_normal())


# ---- what is wrong with the forecasts

Shift = Callable[[RefittedModel, int], float]
"""(rung 0, seed) -> what is added to a forecast, and what no fit of a line ever sees."""
EFFICIENT, MOBILE, PLAIN = "efficientvit_fmnist", "mobilevit_fmnist", "vit_fmnist_p4"


def by_constant(error: float) -> Shift:
    return lambda start, seed: error


def by_family(errors: Mapping[str, float]) -> Shift:
    return lambda start, seed: errors.get(start.backbone, 0.0)


def by_noise(deviation: float) -> Shift:
    return lambda start, seed: deviation * drawn(seed, start.backbone, round(start.divergence, 6), round(start.lost, 6))


SHIFTS: Mapping[str, Shift] = {
    "down_02": by_constant(-0.02),
    "up_02": by_constant(0.02),
    "down_05": by_constant(-0.05),
    "up_05": by_constant(0.05),
    "noise_03": by_noise(0.03),
    "family_a": by_family({MOBILE: 0.03, PLAIN: -0.03}),
    "family_b": by_family({EFFICIENT: -0.03, MOBILE: 0.03}),
    "family_c": by_family({MOBILE: -0.03, EFFICIENT: 0.03}),
}
REVERSED, OTHERS, SLOW_OPENVINO = "reversed", "others", "openvino_20"
"""Rung 0 in the reverse order within a backbone; of another shape of the backbone; screens of OpenVINO 20 % slow."""
WRONG = ("", *SHIFTS, REVERSED, OTHERS, SLOW_OPENVINO)


@contextmanager
def forecasts_shifted(wrong: str, seed: int) -> Iterator[None]:
    """Every line forecasts this wrongly, for the block, whatever it was fitted to."""
    if wrong not in SHIFTS:
        yield
        return
    honest, shift = QualityModel.predict, SHIFTS[wrong]

    def predict(model: QualityModel, start: RefittedModel) -> Estimate:
        estimate = honest(model, start)
        return replace(estimate, mean=estimate.mean + shift(start, seed))

    with patch.object(QualityModel, "predict", predict):
        yield


def starts_of(wrong: str, seed: int) -> Mapping[str, Built]:
    """By the key of a shape, the shape whose rung 0 it shows."""
    shown = {shape.key: shape for shape in table().shapes.values()}
    for backbone in facts().bases:
        mine = [s for s in table().shapes.values() if s.backbone == backbone and not s.needs_no_training]
        if wrong == REVERSED:
            mine.sort(key=lambda shape: shape.kl)
            shown |= {shape.key: other for shape, other in zip(mine, reversed(mine), strict=True)}
        if wrong == OTHERS:
            order = np.random.default_rng(seed).permutation(len(mine))
            shown |= {shape.key: mine[other] for shape, other in zip(mine, order, strict=True)}
    return shown


# ---- stages and device


@dataclass
class TableRunner(FakeRunner):
    """Answers with the rows of the table. A file names its shape."""

    seed: int = 0
    starts: Mapping[str, Built] = field(default_factory=dict)
    epochs: int = 3

    def _answer(self, job: stages.Job[Any]) -> object:
        store = job.workspace.store
        match job:
            case stages.BaseJob():
                base = next(s.base for s in table().shapes.values() if s.backbone == job.source.backbone)
                answer = super()._answer(job)
                assert isinstance(answer, stages.Base)
                return replace(answer, qualities={"accuracy": base}, n=chosen().validation_images)
            case stages.BlockStructureJob():
                structure, scores = structures()[job.source.backbone, job.source.resolution.height]
                return stages.BlockStructureFound(structure, scores, self._file(store, {"statistics": structure}))
            case stages.ScreenJob():
                return self._graph(job.workspace.scratch, job.spec)
            case stages.ProxyJob():
                start = self.starts[key_of(job.spec)]
                return stages.Evaluation({"accuracy": start.holdout}, start.kl, chosen().holdout_images)
            case stages.TrainJob():
                shape = shape_of(job.spec)
                accuracy = table().rung_holdout(shape, int(job.end)) + self._luck(shape)
                checkpoint = self._file(store, {"trained": shape.key, "epochs": job.end})
                evaluation = stages.Evaluation({"accuracy": accuracy}, 0.1, chosen().holdout_images)
                return stages.Trained(evaluation, checkpoint, 64, "last")
            case stages.ExportJob():
                shape = shape_of(job.spec)
                accuracy = table().accuracy(shape, text_of(job.deployment))
                if job.checkpoint_sha256 is None:
                    accuracy = table().accuracy_at(shape, 0) - table().rounding(shape, text_of(job.deployment))
                else:
                    accuracy += self._luck(shape) - lost_by(shape, self.epochs)
                images = chosen().validation_images
                judged = fake_judged(min(1.0, accuracy), images)
                return stages.Exported(self._graph(store, job.spec), judged, images)
        return super()._answer(job)

    def _luck(self, shape: Built) -> float:
        return TRAINING_DEVIATION * drawn(self.seed, shape.key)

    def _graph(self, store: Any, spec: stages.CompressionSpec) -> stages.ExportedGraph:
        shape = shape_of(spec)
        sha256 = self._file(store, {"shape": shape.key, "precision": spec.resolved.precision})
        return stages.ExportedGraph(sha256, 1000, shape.macs_m, 1.0, 0.0)

    @staticmethod
    def _file(store: Any, value: object) -> str:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            path.write_text(json.dumps(value, sort_keys=True))
            return str(store.put_model(path).sha256 if hasattr(store, "put_model") else store.put(path))


def key_of(spec: stages.CompressionSpec) -> str:
    return digest(spec.resolved.kept_indices())[:12]


def shape_of(spec: stages.CompressionSpec) -> Built:
    shape = table().shapes.get(key_of(spec))
    if shape is None or not table().is_judged(shape):
        raise StageError("export", "not_in_table", "the table has no training of this plan")
    return shape


@dataclass
class TableDevice(FakeDevice):
    """Measures what the table says of a file, with an error of its own each time."""

    seed: int = 0
    wrong: str = ""

    async def measure(
        self, artifact: Path, deployment: Deployment, protocol: MeasureProtocol, repeat: int
    ) -> Measurement:
        shape = table().shapes[json.loads(artifact.read_text())["shape"]]
        self.measured[protocol.id] += 1
        cost = table().cost(shape, text_of(deployment))
        if cost is None:
            raise StageError("measure", "crash", "the runtime ends its process on this file")
        half = Z_95 * SCREEN_DEVIATION
        ms = cost.ms * math.exp(
            SCREEN_DEVIATION * drawn(self.seed, shape.key, text_of(deployment), protocol.id, repeat)
        )
        if self.wrong == SLOW_OPENVINO and deployment.runtime == "openvino" and protocol.id == "screen":
            ms *= 1.2
        times = fake_times(ms, half)
        where: dict[str, Any] = {"device_id": self.info.device_id, "environment_id": self.info.environment_id}
        return fake_measurement(ms, protocol, runtime=deployment.runtime, latency_ms=times, cpu_ms=times, **where)


# ---- a search


@dataclass(frozen=True)
class Replay:
    """What a search reached: `shares` after each of its trainings, and why it ended."""

    seed: int
    shares: tuple[float, ...]
    end: SearchEnd
    records: tuple[Record, ...]
    cpu_s: float

    def at(self, trainings: int) -> float:
        return self.shares[min(trainings, len(self.shares) - 1)]

    @property
    def late(self) -> int:
        """Trainings after the last one that gained .001."""
        gains = [i for i, (a, b) in enumerate(zip(self.shares, self.shares[1:], strict=False), 1) if b > a + 0.001]
        return len(self.shares) - 1 - (gains[-1] if gains else 0)


async def no_final_pass(self: FinalPass) -> None:
    """The search alone is compared."""


def replay(seed: int, trainings: int, wrong: str = "", sampler: str = "auto", epochs: int = 3) -> Replay:
    """Search as `vitsearch run` does, with so many trainings at most, each of `epochs`."""
    started = time.process_time()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        stack.enter_context(forecasts_shifted(wrong, seed))
        stack.enter_context(patch.object(FinalPass, "run", no_final_pass))
        if not chosen().is_completed:
            stack.enter_context(patch.object(PlanSpace, "proposes", lambda plans, plan: table().holds(plan)))
        written = plans_of_table().space.to_json()
        search = written["search"] | {"trials": trainings, "seed": seed, "sampler": sampler}
        rungs = [rung for rung in written["task"]["fine_tune"]["rungs"] if rung <= epochs]
        fine_tune = written["task"]["fine_tune"] | {"rungs": rungs}
        written["task"] = written["task"] | {"fine_tune": fine_tune}
        space = SearchSpace.from_json(written | {"search": search, "storage": f"sqlite:///{folder / 'study.db'}"})
        study, ledger, me = Study.open(space), Ledger.open(space.storage), DriverId.current()
        config = replace(fake_stage_config(), base_resolution=plans_of_table().native_resolution)
        adopt_data(study, DATA)
        adopt_judge(study, config.judged_by)
        runner = TableRunner(seed=seed, starts=starts_of(wrong, seed), epochs=epochs)
        device = TableDevice(seed=seed, wrong=wrong)
        session = Session(study.space(), study, ledger, runner, device, me, 1, Silent())
        workspace = stages.Workspace({}, FileStore(folder / "artifacts"), FileStore(folder / "scratch"), folder)
        pipeline = Pipeline(config, StageContext.of(workspace, ledger, runner, me, Silent()), device)
        plans = replace(plans_of_table(), space=session.space)
        end = asyncio.run(Driver(session, pipeline, plans).run())
        records, times = study.records(), study.times()
        order = [records[number] for number in sorted(records, key=lambda number: times[number][1])]
        return Replay(seed, tuple(shares(order, epochs)), end, tuple(order), time.process_time() - started)


def shares(records: list[Record], epochs: int) -> Iterator[float]:
    """What is reached before any training, and after each."""
    reached, trained = first_points(), set[str]()
    for record in records:
        if record.outcome != "confirmed" or record.keys is None:
            continue
        if record.rung and record.keys.weights_key not in trained:
            yield share_of(reached)
            trained.add(record.keys.weights_key)
        if (point := point_after(record.plan, epochs)) is not None:
            reached.append(point)
    yield share_of(reached)


def first_points() -> list[Loss]:
    """The points of the leaderboard."""
    return [point for plan in facts().leaders if (point := true_loss(plan)) is not None]


def point_after(plan: Plan, epochs: int) -> Loss | None:
    """The point of a plan that was trained for so long."""
    shape, point = table().of(plan), true_loss(plan)
    if shape is None or point is None:
        return None
    metrics = metrics_of(plan, accuracy_known=True)
    assert metrics is not None
    accuracy = table().accuracy(shape, deployment_of(plan)) - lost_by(shape, epochs)
    return loss(OBJECTIVES, metrics.values | {"accuracy": min(1.0, accuracy)})


def lost_by(shape: Built, epochs: int) -> float:
    """The accuracy that a shape has less after so many epochs than after the last rung; for one that was not trained
    the difference of its forecasts, without a second residual."""
    if shape.needs_no_training or epochs == table().last_rung:
        return 0.0
    validations = {rung.epochs: rung.validation for rung in shape.rungs}
    ends = (table().last_rung, epochs)
    after = [validations[e] if e in validations else table().forecasts[e].predict(shape) for e in ends]
    return after[0] - after[1]


def share_of(reached: list[Loss]) -> float:
    volume = hypervolume(reached, facts().goals.reference)
    return (volume - facts().least) / (facts().most - facts().least)


@cache
def points_by_shape() -> Mapping[str, tuple[Loss, ...]]:
    points: dict[str, list[Loss]] = {}
    pool = PlanParameters(plans_of_table())
    for plan in map(pool.plan, every_parameters()):
        shape, point = table().of(plan), true_loss(plan)
        if shape is not None and point is not None:
            points.setdefault(shape.key, []).append(point)
    return {key: tuple(each) for key, each in points.items()}


def oracle(trainings: int) -> list[float]:
    """The share after each training of the shape that gains most, by one who knows the table."""
    reached = first_points()
    for key, points in points_by_shape().items():
        if table().shapes[key].needs_no_training:
            reached += points
    found = [share_of(reached)]
    for _ in range(trainings):
        best = max(points_by_shape(), key=lambda key: share_of([*reached, *points_by_shape()[key]]))
        reached += points_by_shape()[best]
        found.append(share_of(reached))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--trainings", type=int, default=60, help="most trainings of a search; its own end is earlier")
    parser.add_argument("--sampler", default="auto")
    parser.add_argument("--wrong", choices=WRONG, default="")
    parser.add_argument("--lines", type=Path, help="add a JSON line for each search")
    parser.add_argument("--oracle", action="store_true")
    parser.add_argument("--table", choices=TABLES, default="own")
    options = parser.parse_args()
    choose(options.table)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    if options.oracle:
        print("oracle, after 0, 1, ... trainings:", " ".join(f"{share:.3f}" for share in oracle(14)))
        return
    print("| seed | at 7 | at 14 | end | trained | late | asked | CPU s | why |\n|---|---|---|---|---|---|---|---|---|")
    ended = []
    for seed in range(options.first_seed, options.first_seed + options.seeds):
        ended.append(one := replay(seed, options.trainings, options.wrong, options.sampler))
        row = [f"{share:.3f}" for share in (one.at(7), one.at(14), one.shares[-1])]
        row += [str(each) for each in (len(one.shares) - 1, one.late, len(one.records), round(one.cpu_s))]
        print(f"| {seed} | {' | '.join(row)} | {one.end.reason} |", flush=True)
        if options.lines:
            with options.lines.open("a") as stream:
                line = {"wrong": options.wrong, "sampler": options.sampler, "seed": seed, "why": one.end.reason}
                stream.write(json.dumps(line | {"shares": [round(share, 4) for share in one.shares]}) + "\n")
    means = [statistics.mean(each) for each in zip(*((r.at(7), r.at(14), r.shares[-1]) for r in ended), strict=True)]
    trained = statistics.mean(len(one.shares) - 1 for one in ended)
    error = statistics.stdev(one.shares[-1] for one in ended) / math.sqrt(len(ended)) if len(ended) > 1 else math.nan
    shown = " | ".join(f"{mean:.3f}" for mean in means)
    print(f"| mean | {shown} +- {error:.3f} | {trained:.1f} | {statistics.mean(one.late for one in ended):.1f} | | | |")


if __name__ == "__main__":
    main()
