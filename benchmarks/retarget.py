"""How well ten measured graphs predict the costs of all others of a finished study on another surface: other threads,
another runtime or another precision.

    python benchmarks/retarget.py measure STUDY FILE --threads 2
    python benchmarks/retarget.py measure STUDY FILE --backend openvino
    python benchmarks/retarget.py report FILE...

`measure` measures every graph of the study there, also those of plans that were only screened, by `--rounds`
screening measurements, and adds them to FILE. `report` goes through them in the order of `vitsearch retarget`. Run
`measure` on a copy of the study: its results are written to the database of the study.
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
from vitsearch.core.figures import Z_95, Figure, Metrics
from vitsearch.core.limits import bounds, reference_values
from vitsearch.core.pareto import loss
from vitsearch.core.plan import Deployment, Plan, plan_text
from vitsearch.core.policy import POLICY
from vitsearch.core.record import Keys, Record
from vitsearch.devices.deployable import deployable_on
from vitsearch.errors import StageError
from vitsearch.pipeline.progress import PlainLines
from vitsearch.search import finished_session
from vitsearch.search.finished_session import Workplace
from vitsearch.search.goals import Goals
from vitsearch.search.retarget.candidates import Finder, RetargetCandidate
from vitsearch.search.retarget.state import RetargetState, deviation
from vitsearch.search.retarget.transfer_model import TransferModel, spearman
from vitsearch.search.retarget.untrained_runner import UntrainedRunner
from vitsearch.space import SearchSpace
from vitsearch.study import lookup
from vitsearch.study.current_figures import CurrentFigures
from vitsearch.study.results.detail import baseline_record
from vitsearch.study.retargeted import Target


@dataclass(frozen=True)
class Surface:
    """Every graph of a study on a target: what was known before, and what was measured. The baseline is the first."""

    target: Target
    space: SearchSpace
    candidates: tuple[RetargetCandidate, ...]
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


def _candidate_json(candidate: RetargetCandidate) -> dict[str, Any]:
    own = asdict(candidate.own) | {"options": list(map(list, candidate.own.options))}
    identity = {"trial": candidate.trial, "rung": candidate.rung, "keys": asdict(candidate.keys)}
    return identity | {"own": own, "here": candidate.here.to_json(), "plan": candidate.plan.to_json()}


def _candidate_of(row: dict[str, Any]) -> RetargetCandidate:
    own = Deployment(**row["own"] | {"options": tuple(map(tuple, row["own"]["options"]))})
    here, plan = Metrics.from_json(row["here"]), Plan.from_json(row["plan"])
    return RetargetCandidate(row["trial"], own, here, plan, row["rung"], Keys(**row["keys"]))


# ---- measuring


def measure(where: str, target: Target, rounds: int, file: Path) -> None:
    """Measure every graph of a study on a target until it was measured `rounds` times, and add them to `file`."""
    progress = PlainLines((), sys.stderr)
    with lookup.opened_to_change(where) as (study, ledger):
        space = target.space(study.space()).model_copy(update={"storage": lookup.find(where).storage})
        with finished_session.opened(study, ledger, space, progress) as place:
            surface = asyncio.run(_surface(replace(place, runner=UntrainedRunner(place.runner)), target, rounds))
    with file.open("a") as stream:
        stream.write(json.dumps(surface.to_json()) + "\n")


async def _surface(place: Workplace, target: Target, rounds: int) -> Surface:
    study, figures = place.study, CurrentFigures(place.ledger)
    can_run = deployable_on(place.device.devices)

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
            candidates, _ = await finder.models({number: record})
            models += [model for model in candidates if not _is_known(model, target, study.space())]
        wanted, kept, there = [baseline, *_of_graphs(models, trained)], [], []
        for number, candidate in enumerate(wanted):
            try:
                metrics = await pipeline.screen(await pipeline.resolve(candidate.plan), rounds)
            except StageError as error:
                place.progress.note(f"{candidate.name} is left out: {error}")
                continue
            kept.append(candidate)
            there.append(metrics | _accuracy_of(candidate))
            place.progress.note(f"{number} of {len(wanted) - 1}  {plan_text(candidate.plan)}")
    return Surface(target, place.space, tuple(kept), tuple(there))


def _has_graph(record: Record) -> bool:
    return record.keys is not None and record.duplicate_of is None and record.outcome != "failed"


def _as_confirmed(record: Record) -> Record:
    """A plan that was only screened, with the accuracy that is predicted for it."""
    if record.is_confirmed:
        return record
    predicted = 0.0 if record.proxy is None else record.proxy.predicted["accuracy"].mean
    metrics = record.metrics | Metrics({"accuracy": Figure(predicted)})
    return replace(record, outcome="confirmed", rung=0, metrics=metrics)


def _accuracy(record: Record) -> Metrics:
    return Metrics({"accuracy": record.metrics.figures["accuracy"]})


def _is_known(model: RetargetCandidate, target: Target, own: SearchSpace) -> bool:
    """Whether the study itself has measured it so."""
    return model.moves_only and target.threads in (None, own.measure.threads)


def _of_graphs(models: Sequence[RetargetCandidate], trained: set[int]) -> list[RetargetCandidate]:
    """One model of each graph here, a trained one where there is one."""
    by_graph: dict[tuple[str, Deployment], RetargetCandidate] = {}
    for model in sorted(models, key=lambda candidate: candidate.trial not in trained):
        by_graph.setdefault((model.keys.graph_key, model.own), model)
    return list(by_graph.values())


def _accuracy_of(candidate: RetargetCandidate) -> Metrics:
    return Metrics({"accuracy": candidate.here.figures["accuracy"]})


# ---- judging


@dataclass(frozen=True)
class Judged:
    """Of one cost: relative errors of the `graphs` that are not among the first ones, by the model and by a plain
    ratio (the median of those of the first), and how many lie in the intervals of the model."""

    graphs: int
    median_error: float
    largest_error: float
    spearman: float
    covered: float
    plain_error: float
    plain_spearman: float


@dataclass(frozen=True)
class Walk:
    """What the order of `vitsearch retarget` gave. `first` is what was known after the graphs that
    are measured for the predictions, `order` are all that were measured until no other was likely on the front,
    `front` those on the true front."""

    first: RetargetState
    order: tuple[int, ...]
    front: frozenset[int]


def walk(surface: Surface) -> Walk:
    """Measure the graphs of a surface in the order of `vitsearch retarget`."""
    objectives, baseline = tuple(surface.space.objectives), surface.there[0]
    limits = bounds(surface.space.limits, baseline.values)
    reference = loss(objectives, reference_values(objectives, limits, baseline.values))
    assert reference is not None
    predictors = {
        name: TransferModel([candidate.graph(name) for candidate in surface.candidates]) for name in _costs(surface)
    }
    goals = Goals(objectives, limits, reference)
    metrics = (baseline, *(Metrics({}) for _ in surface.candidates[1:]))
    state = first = RetargetState(goals, predictors, surface.candidates, metrics)
    order = [0]
    while (index := state.next()) is not None:
        metrics = (*state.metrics[:index], surface.there[index], *state.metrics[index + 1 :])
        state = replace(state, metrics=metrics)
        order.append(index)
        if len(state.graphs) <= POLICY.retargeting.first_graphs:
            first = state
    everything = replace(state, metrics=surface.there)
    front = frozenset(index for index, chance in enumerate(everything.chances) if chance >= 0.5)
    return Walk(first, tuple(order), front)


def _costs(surface: Surface) -> list[str]:
    return [name for name in surface.space.objectives if name != "accuracy"]


def judge(surface: Surface, first: RetargetState, name: str) -> Judged:
    """Compare what was predicted of one cost after the first graphs with what was measured."""
    graph_keys = {first.candidates[index].keys.graph_key for index in first.graphs}
    rest = [index for index in first.open if first.candidates[index].keys.graph_key not in graph_keys]
    here = np.array([candidate.graph(name).logs[0] for candidate in surface.candidates])
    there = np.log([metrics.value(name) or np.nan for metrics in surface.there])
    plain = here + np.median((there - here)[first.graphs])
    predicted = first.predicted[name]
    errors = (predicted.means - there)[rest]
    noise = [deviation(surface.there[index].figures[name]) for index in rest]
    relative = np.abs(np.expm1(errors))
    return Judged(
        len(rest),
        float(np.median(relative)),
        float(relative.max()),
        spearman(predicted.means[rest], there[rest]) or 0.0,
        float((np.abs(errors) <= Z_95 * np.hypot(predicted.deviations[rest], noise)).mean()),
        float(np.median(np.abs(np.expm1((plain - there)[rest])))),
        spearman(plain[rest], there[rest]) or 0.0,
    )


def report(files: list[Path]) -> None:
    """A row for each surface and cost."""
    print(
        "| study | surface | cost | graphs predicted | median error | largest | Spearman | in the 95 % interval "
        "| a plain ratio: median error, Spearman | measured | of the front |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for line in (line for file in files for line in file.read_text().splitlines()):
        surface = Surface.from_json(json.loads(line))
        if len(surface.candidates) == 1:
            print(
                f"{surface.space.study} on {surface.target.name} has no graph but that of the baseline", file=sys.stderr
            )
            continue
        path = walk(surface)
        reached = f"{len(path.front & set(path.order))} of {len(path.front)}"
        for name in _costs(surface):
            fit = judge(surface, path.first, name)
            print(
                f"| {surface.space.study} | {surface.target.name} | {name} | {fit.graphs} | {fit.median_error:.1%} "
                f"| {fit.largest_error:.0%} | {fit.spearman:.3f} | {fit.covered:.0%} "
                f"| {fit.plain_error:.1%}, {fit.plain_spearman:.3f} "
                f"| {len(path.order)} of {len(surface.candidates)} | {reached} |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    measuring = commands.add_parser("measure")
    measuring.add_argument("study")
    measuring.add_argument("file", type=Path)
    measuring.add_argument("--threads", type=int)
    measuring.add_argument("--rounds", type=int, default=1)
    for name in ("backend", "provider", "quantization"):
        measuring.add_argument(f"--{name}")
    commands.add_parser("report").add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "report":
        report(options.files)
        return
    target = Target("local", options.backend, options.provider, options.quantization, options.threads)
    measure(options.study, target, options.rounds, options.file)


if __name__ == "__main__":
    main()
