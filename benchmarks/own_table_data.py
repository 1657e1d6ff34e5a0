"""A table of ours as searches see it: what each plan costs, and what its training gives.

What is derived from the measurements, here and in
no other place (what is not measured was derived once, by `own_table.py complete`, and is stored beside the table, so
that a model of the search may be changed and the truth stays; the second table is not completed, and has no plan that
was not measured and trained):

    unbuilt     rung 0, size and costs of shapes (or files) that were not built: by a Gaussian process over the knobs on
                those of their backbone that were, with its error on parts that were left out.
    cost        CPU milliseconds on a quiet machine: of two visits the lower ratio of the model's time to the mixture of
                both references that the agent expects of files of its size, times the low quartile of that mixture
                over all visits. What else runs on a machine only ever slows a model.
    accuracy    of a shape that was trained: on the validation images after the last rung. Of others: a line or a
                Gaussian process on what was trained, whichever has the smaller leave-one-out error, and a residual that
                the shape's key draws from that error.
    rounding    what bf16 and int8 cost: for each backbone and deployment a line of the accuracy that was lost on the
                same validation images over the KL of the shape.
"""

from __future__ import annotations

import json
import lzma
import math
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np
from own_table_forecasts import FORECASTS, Forecast
from own_table_plans import Shape, chosen, shape_of, text_of
from own_table_rows import DEPLOYMENTS, Built, Cost, built_of, unbuilt_of

from vitsearch.core.plan import Plan
from vitsearch.study.auto_sampler.encoding import Encoding, Knob, Points
from vitsearch.study.auto_sampler.gaussian_process import COSTS, ERRORS, GaussianProcess, Settings
from vitsearch_agent.measure.figures.paired_ratio import prior_weight

VISIT_DEVIATION = 0.02
"""Of the lower of two visits, at least, relative."""
MOST_SPREAD = 0.1
"""Half the difference of two visits above which neither is believed."""


@dataclass(frozen=True)
class Completions:
    """What is taken to be true where nothing was measured: costs by shape and deployment, accuracies by shape and
    epochs."""

    costs: Mapping[tuple[str, str], Cost]
    accuracies: Mapping[tuple[str, int], float]

    @classmethod
    def read(cls) -> Completions:
        with lzma.open(chosen().file("_completions.json.xz"), "rt") as stream:
            stored = json.load(stream)
        costs = {(key, name): Cost(ms, error, measured=False) for key, name, ms, error in stored["costs"]}
        return cls(costs, {(key, epochs): accuracy for key, epochs, accuracy in stored["accuracies"]})

    def write(self, path: Path) -> None:
        costs = [[*at, cost.ms, cost.deviation] for at, cost in self.costs.items()]
        accuracies = [[*at, accuracy] for at, accuracy in self.accuracies.items()]
        text = json.dumps({"costs": costs, "accuracies": accuracies}, separators=(",", ":"))
        path.write_bytes(lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME))


@dataclass(frozen=True)
class OwnTable:
    """Shapes by their key."""

    about: Mapping[str, Any]
    shapes: Mapping[str, Built]
    completion_errors: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path | None = None) -> OwnTable:
        with lzma.open(path or chosen().file(".jsonl.xz"), "rt") as stream:
            about, *rows = map(json.loads, stream)
        built = [built_of(row) for row in rows if "kl" in row]
        bases = {shape.backbone: shape.base for shape in built}
        missing = [row for row in rows if "kl" not in row] if chosen().is_completed else []
        unbuilt = [unbuilt_of(row, bases[row["backbone"]]) for row in missing]
        completions = list(completed(built, unbuilt))
        errors = {name: error for _, errors_of_backbone in completions for name, error in errors_of_backbone.items()}
        return cls(about, {shape.key: shape for shape in [*built, *(shape for shape, _ in completions)]}, errors)

    def of(self, plan: Plan) -> Built | None:
        return self._by_shape.get(shape_of(plan))

    @cached_property
    def _by_shape(self) -> dict[Shape, Built]:
        return {(shape.backbone, shape.resolution, cut): shape for shape in self.shapes.values() for cut in shape.cuts}

    @cached_property
    def trained(self) -> list[Built]:
        return [shape for shape in self.shapes.values() if shape.rungs and shape.rungs[-1].epochs == self.last_rung]

    @property
    def last_rung(self) -> int:
        return max(rung.epochs for shape in self.shapes.values() for rung in shape.rungs)

    # ---- accuracy

    def accuracy(self, shape: Built, deployment: str) -> float:
        """After the last rung; as it is where nothing needs training."""
        exported = shape.rungs[-1].exported if shape.rungs and not shape.needs_no_training else {}
        if deployment in exported:
            return exported[deployment]
        return self.accuracy_at(shape, self.last_rung) - self.rounding(shape, deployment)

    def accuracy_at(self, shape: Built, epochs: int) -> float:
        """On the validation images, in fp32."""
        if epochs == 0 or shape.needs_no_training:
            return shape.validation
        validations = {rung.epochs: rung.validation for rung in shape.rungs}
        return validations[epochs] if epochs in validations else self.completions.accuracies[shape.key, epochs]

    @cached_property
    def completions(self) -> Completions:
        return Completions.read() if chosen().is_completed else Completions({}, {})

    def completed(self) -> Completions:
        """What to store as the completions of this table."""
        costs = {at: cost for at, cost in self._completed_costs().items() if not cost.measured}
        accuracies = {
            (shape.key, epochs): self._surrogate(shape, epochs)
            for shape in self.shapes.values()
            for epochs in self.forecasts
            if not shape.needs_no_training and epochs not in {rung.epochs for rung in shape.rungs}
        }
        return Completions(costs, accuracies)

    def _surrogate(self, shape: Built, epochs: int) -> float:
        forecast = self.forecasts[epochs]
        draw = np.random.default_rng(int(shape.key, 16) + epochs).standard_normal()
        return min(1.0, forecast.predict(shape) + forecast.error * float(draw))

    @cached_property
    def forecasts(self) -> dict[int, Forecast]:
        """For each rung, of two forecasts the one with the smaller leave-one-out error."""
        rungs = sorted({rung.epochs for shape in self.trained for rung in shape.rungs})
        return {
            rung: min((Forecast.of(how, self.trained, rung) for how in FORECASTS), key=attrgetter("error"))
            for rung in rungs
        }

    def rung_holdout(self, shape: Built, epochs: int) -> float:
        """Accuracy on the holdout after a rung, by which a search decides."""
        holdouts = {rung.epochs: rung.holdout for rung in shape.rungs}
        if epochs in holdouts:
            return holdouts[epochs]
        differ = [rung.holdout - rung.validation for each in self.trained for rung in each.rungs]
        draw = np.random.default_rng([int(shape.key, 16), epochs]).standard_normal()
        miss = statistics.mean(differ) + statistics.stdev(differ) * float(draw)
        return min(1.0, self.accuracy_at(shape, epochs) + miss)

    def training_cpu_s(self, shape: Built, rung: int) -> float:
        """CPU-seconds from the rung before; of a shape that was not trained, by a line on its multiplications."""
        cpu_s = {step.epochs: step.cpu_s for step in shape.rungs}
        return (
            cpu_s[rung] if rung in cpu_s else math.exp(self.seconds_line(shape.backbone, rung)(math.log(shape.macs_m)))
        )

    def seconds_line(self, backbone: str, epochs: int) -> Callable[[float], float]:
        """Logarithm of the multiplications in millions -> that of the CPU-seconds of a rung."""
        pairs = [
            (math.log(shape.macs_m), math.log(rung.cpu_s))
            for shape in self.trained
            for rung in shape.rungs
            if shape.backbone == backbone and rung.epochs == epochs
        ]
        slope, start = line_through(pairs)
        return lambda size: start + slope * size

    def rounding(self, shape: Built, deployment: str) -> float:
        """What a precision costs in accuracy; nothing in fp32, and nothing where it did not cost anything."""
        if not chosen().is_completed:
            return float(shape.files[deployment]["lost"].get(deployment, 0)) / chosen().rounded_images
        line = self._roundings.get((shape.backbone, deployment))
        return 0.0 if line is None else max(0.0, line[0] + line[1] * shape.kl)

    @cached_property
    def _roundings(self) -> dict[tuple[str, str], tuple[float, float]]:
        seen: dict[tuple[str, str], list[tuple[float, float]]] = defaultdict(list)
        for shape in self.shapes.values():
            for file in shape.files.values():
                for name, lost in file.get("lost", {}).items():
                    seen[shape.backbone, name].append((shape.kl, lost / chosen().rounded_images))
        roundings = {}
        for at, pairs in seen.items():
            if len(pairs) > 2:
                slope, start = line_through(pairs)
                roundings[at] = start, slope
        return roundings

    # ---- cost

    def cost(self, shape: Built, deployment: str) -> Cost | None:
        """None where the runtime ends its process on the file of this shape."""
        return self.costs.get((shape.key, deployment))

    @cached_property
    def costs(self) -> dict[tuple[str, str], Cost]:
        """Measured where the file was written, else predicted by the files of the same backbone and deployment."""
        return {**self.completions.costs, **self._measured_costs()}

    def _measured_costs(self) -> dict[tuple[str, str], Cost]:
        return {
            (shape.key, name): cost
            for shape in self.shapes.values()
            for name in DEPLOYMENTS
            if (cost := self._measured(shape, name)) is not None
        }

    def _completed_costs(self) -> dict[tuple[str, str], Cost]:
        costs = self._measured_costs()
        for (backbone, name), model in sorted(self.cost_models.items(), key=lambda item: item[0][1] == LATE):
            missing = [
                shape
                for shape in self.shapes.values()
                if shape.backbone == backbone and (shape.key, name) not in costs and not self._fails(shape, name)
            ]
            for shape, log in zip(missing, model.predict(missing), strict=True):
                beside = costs.get((shape.key, BESIDE)) if name == LATE else Cost(1.0, 0.0)
                if beside is not None:
                    ms = beside.ms * math.exp(float(log))
                    costs[shape.key, name] = Cost(ms, max(model.error, VISIT_DEVIATION), measured=False)
        return costs

    @cached_property
    def cost_models(self) -> dict[tuple[str, str], Completion]:
        models = {}
        for backbone in sorted({shape.backbone for shape in self.shapes.values()}):
            for name in DEPLOYMENTS:
                mine = [shape for shape in self.shapes.values() if shape.backbone == backbone]
                pairs = [(shape, log) for shape in mine if (log := self._log_cost(shape, name)) is not None]
                if len(pairs) >= LEAST_TO_COMPLETE:
                    models[backbone, name] = Completion.of(pairs, COSTS)
        return models

    def has(self, backbone: str, deployment: str) -> bool:
        """Whether there are files enough of a deployment to be in the table."""
        return (backbone, deployment) in self._in_table

    def is_judged(self, shape: Built) -> bool:
        """Whether it is known what a training of a shape gives."""
        return chosen().is_completed or shape.needs_no_training or bool(shape.rungs)

    def holds(self, plan: Plan) -> bool:
        """Whether a plan is in the table."""
        deployment, shape = deployment_of(plan), self.of(plan)
        if chosen().is_completed:
            return self.has(plan.backbone, deployment)
        return shape is not None and self.is_judged(shape) and self.cost(shape, deployment) is not None

    @cached_property
    def _in_table(self) -> set[tuple[str, str]]:
        return {(self.shapes[key].backbone, deployment) for key, deployment in self.completions.costs}

    def _log_cost(self, shape: Built, deployment: str) -> float | None:
        """Of a measured file; of the files of which there are few, beside that of the same shape in bf16."""
        cost, beside = self._measured(shape, deployment), self._measured(shape, BESIDE)
        if cost is None or (deployment == LATE and beside is None):
            return None
        return math.log(cost.ms / (beside.ms if deployment == LATE and beside is not None else 1.0))

    def _fails(self, shape: Built, deployment: str) -> bool:
        """Of a shape that was not built: whether the most similar one that was built fails."""
        if not shape.built:
            return self._fails(self._nearest(shape), deployment)
        file = shape.files.get("openvino fp32" if deployment == "openvino bf16" else deployment)
        return deployment in shape.crashed or (file is not None and "failed" in file)

    def _nearest(self, shape: Built) -> Built:
        others = [other for other in self.shapes.values() if other.built and other.backbone == shape.backbone]
        return min(others, key=lambda other: float(np.sum((row_of(other) - row_of(shape)) ** 2)))

    def _measured(self, shape: Built, deployment: str) -> Cost | None:
        visits = shape.times.get(deployment)
        if not visits:
            return None
        weight = prior_weight(self._bytes(shape, deployment))
        logs = sorted(weight * products + (1 - weight) * convolutions for products, convolutions, _ in visits)
        quiet = weight * self.quiet[0] + (1 - weight) * self.quiet[1]
        spread = (logs[-1] - logs[0]) / 2
        if spread > MOST_SPREAD:
            return None
        return Cost(math.exp(logs[0] + quiet), max(spread, VISIT_DEVIATION))

    def _bytes(self, shape: Built, deployment: str) -> int:
        return int(shape.files["openvino fp32" if deployment == "openvino bf16" else deployment]["bytes"])

    @cached_property
    def quiet(self) -> tuple[float, float]:
        """Logarithms of the references' times in ms on a quiet machine: low quartiles."""
        visits = [visit for shape in self.shapes.values() for times in shape.times.values() for visit in times]
        read = [(math.log(ms) - products, math.log(ms) - convolutions) for products, convolutions, ms in visits]
        return float(np.quantile([a for a, _ in read], 0.25)), float(np.quantile([b for _, b in read], 0.25))


def line_through(pairs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Slope and start of the line of least squares."""
    slope, start = np.polyfit(np.array([x for x, _ in pairs]), np.array([y for _, y in pairs]), 1)
    return float(slope), float(start)


# ---- shapes that were not built


def row_of(shape: Built) -> np.ndarray:
    """Knobs as numbers in [0, 1]."""
    cut = shape.cuts[0]
    methods = (None, "topk", "tome")
    return np.array(
        [
            (shape.resolution - 20) / 8,
            cut.depth_pruning_ratio / 0.33,
            cut.head_pruning_ratio,
            cut.ffn_pruning_ratio,
            float(cut.scope == "global" and cut.head_pruning_ratio + cut.ffn_pruning_ratio > 0),
            *(float(cut.token_pruning_method == method) for method in methods[1:]),
        ]
    )


KNOBS = tuple(Knob(name) for name in ("resolution", "depth", "heads", "ffn", "scope", "topk", "tome"))


def points_of(shapes: Sequence[Built]) -> Points:
    return Encoding(KNOBS).points(np.array([row_of(shape) for shape in shapes]).reshape(len(shapes), len(KNOBS)))


@dataclass(frozen=True)
class Completion:
    """A Gaussian process over the knobs of one backbone, with its error on parts that were left out in turn."""

    process: GaussianProcess
    error: float
    shapes: int

    @classmethod
    def of(cls, pairs: Sequence[tuple[Built, float]], settings: Settings) -> Completion:
        shapes, targets = [shape for shape, _ in pairs], np.array([value for _, value in pairs])
        points, noises = points_of(shapes), np.zeros(len(pairs))
        misses = []
        for part in range(PARTS):
            out = np.arange(len(pairs)) % PARTS == part
            model = GaussianProcess.fit(points.take(~out), targets[~out], noises[~out], settings)
            misses += list(model.predict(points.take(out))[0] - targets[out])
        process = GaussianProcess.fit(points, targets, noises, settings)
        return cls(process, float(np.sqrt(np.mean(np.square(misses)))), len(pairs))

    def predict(self, shapes: Sequence[Built]) -> np.ndarray:
        return self.process.predict(points_of(shapes))[0] if shapes else np.empty(0)


PARTS, LEAST_TO_COMPLETE = 5, 5
LATE, BESIDE = "openvino int8_ptq", "openvino bf16"
"""Few files of the first were written, because NNCF takes long: its cost is modelled beside that of the second."""


def completed(built: Sequence[Built], unbuilt: Sequence[Built]) -> Iterator[tuple[Built, dict[str, float]]]:
    """Shapes that were not built with the rung 0 that is predicted of them, and the errors of that."""
    for backbone in sorted({shape.backbone for shape in unbuilt}):
        mine = [shape for shape in built if shape.backbone == backbone]
        missing = [shape for shape in unbuilt if shape.backbone == backbone]
        roots = Completion.of([(shape, math.sqrt(shape.kl)) for shape in mine], ERRORS)
        losses = Completion.of([(shape, shape.base - shape.holdout) for shape in mine], ERRORS)
        sizes = Completion.of([(shape, math.log(shape.macs_m)) for shape in mine], COSTS)
        errors = {
            f"square root of KL, {backbone}": roots.error,
            f"accuracy lost at rung 0, {backbone}": losses.error,
            f"log MACs, {backbone}": sizes.error,
        }
        predicted = zip(missing, roots.predict(missing), losses.predict(missing), sizes.predict(missing), strict=True)
        for shape, root, lost, size in predicted:
            kl, macs_m = max(0.0, float(root)) ** 2, math.exp(float(size))
            at = shape.base - float(lost)
            yield replace(shape, kl=kl, holdout=at, validation=at, macs_m=macs_m), errors


def deployment_of(plan: Plan) -> str:
    return text_of(plan.deployment)
