"""How well ten measured graphs predict the costs of all others of a finished study on another surface: other threads,
another runtime or another precision.

    python benchmarks/retarget.py measure STUDY FILE --threads 2
    python benchmarks/retarget.py measure STUDY FILE --backend openvino
    python benchmarks/retarget.py report FILE...

``measure`` measures every graph of the study there, also those of plans that were only screened, by ``--rounds``
screening measurements, and adds them to FILE. ``report`` goes through them in the order of ``vitsearch retarget``. Run
``measure`` on a copy of the study: its results are written to the database of the study.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vitsearch import backbones
from vitsearch.core import legality
from vitsearch.core.figures import Figure, Metrics
from vitsearch.core.limits import bounds, reference_values
from vitsearch.core.metrics import split
from vitsearch.core.pareto import loss
from vitsearch.core.plan import Deployment, Plan, plan_text
from vitsearch.core.record import Keys, Record
from vitsearch.devices.deployable import deployable
from vitsearch.errors import StageError
from vitsearch.pipeline.progress import PlainLines
from vitsearch.search.finished import workplace
from vitsearch.search.finished.workplace import Workplace
from vitsearch.search.retarget.candidates import Candidate, Finder
from vitsearch.search.retarget.order import Goals
from vitsearch.search.retarget.standing import FIRST, HALF, Standing, deviation
from vitsearch.search.retarget.transfer_model import TransferModel, spearman
from vitsearch.search.retarget.untrained_runner import UntrainedRunner
from vitsearch.space import SearchSpace
from vitsearch.study import lookup
from vitsearch.study.current import CurrentFigures
from vitsearch.study.results.detail import baseline_record
from vitsearch.study.retargeted import Target


@dataclass(frozen=True)
class Surface:
    """Every graph of a study on a target: what was known before, and what was measured. The baseline is the first."""

    target: Target
    space: SearchSpace
    candidates: tuple[Candidate, ...]
    there: tuple[Metrics, ...]

    def to_json(self) -> dict[str, Any]:
        rows = [
            _candidate_json(candidate) | {"there": metrics.to_json()}
            for candidate, metrics in zip(self.candidates, self.there, strict=True)
        ]
        return {"target": self.target.to_json(), "space": self.space.to_json(), "rows": rows}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Surface:
        there = tuple(Metrics.from_json(row.pop("there")) for row in value["rows"])
        candidates = tuple(map(_candidate_of, value["rows"]))
        return cls(Target(**value["target"]), SearchSpace.from_json(value["space"]), candidates, there)


def _candidate_json(one: Candidate) -> dict[str, Any]:
    own = asdict(one.own) | {"options": list(map(list, one.own.options))}
    known = {"trial": one.trial, "rung": one.rung, "keys": asdict(one.keys)}
    return known | {"own": own, "here": one.here.to_json(), "plan": one.plan.to_json()}


def _candidate_of(row: dict[str, Any]) -> Candidate:
    own = Deployment(**row["own"] | {"options": tuple(map(tuple, row["own"]["options"]))})
    here, plan = Metrics.from_json(row["here"]), Plan.from_json(row["plan"])
    return Candidate(row["trial"], own, here, plan, row["rung"], Keys(**row["keys"]))


# ---- measuring


def measure(where: str, target: Target, rounds: int, file: Path) -> None:
    """Measure every graph of a study on a target until it was measured ``rounds`` times, and add them to ``file``."""
    progress = PlainLines((), sys.stderr)
    with lookup.opened(where) as (study, ledger):
        space = target.space(study.space()).model_copy(update={"storage": lookup.find(where).storage})
        with workplace.opened(study, ledger, space, progress) as place:
            surface = asyncio.run(_surface(replace(place, runner=UntrainedRunner(place.runner)), target, rounds))
    with file.open("a") as stream:
        stream.write(json.dumps(surface.to_json()) + "\n")


async def _surface(place: Workplace, target: Target, rounds: int) -> Surface:
    study, figures = place.study, CurrentFigures(place.ledger, place.study.space().measure.threads)
    can_run = deployable(place.device.name, place.device.info)

    def refused(plan: Plan) -> str | None:
        reasons = [reason.text for reason in legality.reasons(plan, backbones.supports)]
        return reasons[0] if reasons else can_run(plan.deployment)

    records = {number: _as_confirmed(record) for number, record in study.records().items() if _has_graph(record)}
    trained = {number for number, record in study.records().items() if record.is_confirmed}
    async with place.pipeline() as pipeline:
        finder = Finder(pipeline, target, refused, lambda record: figures.now(record)[0] | _accuracy(record))
        baseline = await finder.baseline(baseline_record(study))
        models = []
        for number, record in records.items():  # one by one: models that are the same there are different here
            found, _ = await finder.models({number: record})
            models += [model for model in found if not _is_known(model, target, study.space())]
        asked, kept, there = [baseline, *_of_graphs(models, trained)], [], []
        for number, candidate in enumerate(asked):
            try:
                metrics = await pipeline.screen(await pipeline.resolve(candidate.plan), rounds)
            except StageError as error:
                place.progress.note(f"{candidate.name} is left out: {error}")
                continue
            kept.append(candidate)
            there.append(metrics | _accuracy_of(candidate))
            place.progress.note(f"{number} of {len(asked) - 1}  {plan_text(candidate.plan)}")
    return Surface(target, place.space, tuple(kept), tuple(there))


def _has_graph(record: Record) -> bool:
    return record.keys is not None and record.duplicate_of is None and record.outcome != "failed"


def _as_confirmed(record: Record) -> Record:
    """A plan that was only screened, with the accuracy that is predicted for it."""
    if record.is_confirmed:
        return record
    predicted = 0.0 if record.proxy is None else record.proxy.predicted_accuracy
    metrics = record.metrics | Metrics({"accuracy": Figure(predicted)})
    return replace(record, outcome="confirmed", rung=0, metrics=metrics)


def _accuracy(record: Record) -> Metrics:
    return Metrics({"accuracy": record.metrics.figures["accuracy"]})


def _is_known(model: Candidate, target: Target, own: SearchSpace) -> bool:
    """Whether the study itself has measured it so."""
    return model.moves_only and target.threads in (None, own.measure.threads)


def _of_graphs(models: Sequence[Candidate], trained: set[int | None]) -> list[Candidate]:
    """One model of each graph here, a trained one where there is one."""
    found: dict[tuple[str, Deployment], Candidate] = {}
    for model in sorted(models, key=lambda one: one.trial not in trained):
        found.setdefault((model.keys.graph_key, model.own), model)
    return list(found.values())


def _accuracy_of(candidate: Candidate) -> Metrics:
    return Metrics({"accuracy": candidate.here.figures["accuracy"]})


# ---- judging


@dataclass(frozen=True)
class Judged:
    """What ``order`` gave: errors of the graphs that were not measured, after the first ``FIRST``; how many graphs were
    measured until no other was likely on the front; and of the models on the true front how many those were."""

    graphs: int
    median_error: float
    worst_error: float
    spearman: float
    covered: float
    measured: int
    on_front: int
    found: int


def judge(surface: Surface) -> tuple[dict[str, Judged], list[int]]:
    """Go through a surface in the order of ``vitsearch retarget``, for each cost."""
    objectives = tuple(surface.space.objectives)
    baseline = surface.there[0]
    limits = bounds(surface.space.limits, baseline.values)
    reference = loss(objectives, reference_values(objectives, limits, baseline.values))
    assert reference is not None
    costs = [name for name in objectives if name != "accuracy"]
    predictors = {name: TransferModel([one.graph(name) for one in surface.candidates]) for name in costs}
    goals = Goals(objectives, limits, reference)
    unknown = Metrics({})
    known = [baseline, *(unknown for _ in surface.candidates[1:])]
    standing = Standing(goals, predictors, surface.candidates, known)
    order, after_first = [0], None
    while (index := standing.next()) is not None:
        known = [*standing.known]
        known[index] = surface.there[index]
        order.append(index)
        standing = replace(standing, known=known)
        if len(standing.graphs) == FIRST:
            after_first = standing
    everything = replace(standing, known=surface.there)
    front = {index for index, chance in enumerate(everything.chances) if chance >= 0.5}
    judged = {}
    for name in costs:
        assert after_first is not None, "the study has too few graphs"
        predicted = after_first.predicted[name]
        seen = {after_first.candidates[index].keys.graph_key for index in after_first.graphs}
        rest = np.array([i for i in after_first.open if after_first.candidates[i].keys.graph_key not in seen])
        logs = np.log([surface.there[index].value(name) or np.nan for index in rest])
        errors = predicted.means[rest] - logs
        spread = np.hypot(predicted.deviations[rest], [deviation(surface.there[index].figures[name]) for index in rest])
        relative = np.abs(np.expm1(errors))
        judged[name] = Judged(
            len(rest),
            float(np.median(relative)),
            float(relative.max()),
            spearman(predicted.means[rest], logs) or 0.0,
            float((np.abs(errors) <= HALF * spread).mean()),
            len(order),
            len(front),
            len(front & set(order)),
        )
    return judged, order


def in_proportion(surface: Surface, name: str, order: list[int]) -> tuple[float, float]:
    """What a plain ratio gives: the median of those of the first graphs, times the cost in the study."""
    here, there = (
        np.log([metrics.value(name) or metrics.value("latency_ms_p50") or np.nan for metrics in side])
        for side in ([one.here for one in surface.candidates], surface.there)
    )
    first, rest = np.array(order[:FIRST]), np.setdiff1d(np.arange(len(here)), order[:FIRST])
    predicted = here[rest] + np.median(there[first] - here[first])
    return float(np.median(np.abs(np.expm1(predicted - there[rest])))), spearman(predicted, there[rest]) or 0.0


def report(files: list[Path]) -> None:
    print(
        "| study | surface | metric | graphs predicted | median error | largest | Spearman | in the 95 % interval "
        "| measured | of the front | by a plain ratio: median error, Spearman |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for file in files:
        for line in file.read_text().splitlines():
            surface = Surface.from_json(json.loads(line))
            judged, order = judge(surface)
            for name, one in judged.items():
                assert split(name)[0].on_device
                plain, rank = in_proportion(surface, name, order)
                print(
                    f"| {surface.space.study} | {surface.target.name} | {name} | {one.graphs} | {one.median_error:.1%} "
                    f"| {one.worst_error:.0%} | {one.spearman:.3f} | {one.covered:.0%} "
                    f"| {one.measured} of {len(surface.candidates)} | {one.found} of {one.on_front} "
                    f"| {plain:.1%}, {rank:.3f} |"
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    asked = commands.add_parser("measure")
    asked.add_argument("study")
    asked.add_argument("file", type=Path)
    asked.add_argument("--threads", type=int)
    asked.add_argument("--rounds", type=int, default=1)
    for name in ("backend", "provider", "quantization"):
        asked.add_argument(f"--{name}")
    commands.add_parser("report").add_argument("files", type=Path, nargs="+")
    given = parser.parse_args()
    if given.command == "report":
        report(given.files)
        return
    target = Target("local", given.backend, given.provider, given.quantization, given.threads)
    measure(given.study, target, given.rounds, given.file)


if __name__ == "__main__":
    main()
