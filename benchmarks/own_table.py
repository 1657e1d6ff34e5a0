"""Make a table of really built, measured and trained plans of a space, for `own_table_search.py`.

    python benchmarks/own_table.py build FILE            cut, refit, judge and export every shape
    flock LOCK python benchmarks/own_table.py measure FILE --seconds 270      CPU time of what was exported; again
    python benchmarks/own_table.py train FILE            60 of the shapes, to rungs 1 and 3
    python benchmarks/own_table.py train FILE --beyond TABLE     every shape that TABLE has no training of
    python benchmarks/own_table.py join FILE TABLE       the trainings of FILE into TABLE
    python benchmarks/own_table.py pack FILE TABLE       a compressed table; the lines stay as they are
    python benchmarks/own_table.py structures FILE STRUCTURES     what replays cut plans by
    python benchmarks/own_table.py complete TABLE COMPLETIONS     what is taken to be true of what was not measured
    python benchmarks/own_table.py make FILE TABLE       all of it, in this order

FILE has one JSON line for each unit of work (a shape, a measured file, a rung), so each command can be stopped at any
time and goes on where it was; `build` and `train` may run beside each other. All of it runs in one thread. The table is
that of the quickstart's space; with `--table second` it is the one that nothing is fitted on (`own_table_plans.py`).

    shape      block structure, cut, closed-form refit (rung 0): as a worker does it. Its accuracy and KL on the holdout
               as the search sees them, and its accuracy on the 2,000 validation images.
    files      of the refitted weights, for onnxruntime (fp32, int8) and OpenVINO (fp32, bf16 from the same file, int8).
               What int8 and bf16 lose is judged on the first 400 validation images, beside torch on the same ones.
    measure    in one process: two visits, some seconds to a minute apart, of six blocks of 8 ms, in turn with blocks of
               the agent's two reference models; of each the fastest tenth of the single runs.
    training   by the recipe of the space, distilled from the base; accuracy on the holdout as the search sees it, and
               on the validation images. In a table that is not completed, of the int8 file of the last rung too.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import math
import random
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from own_table_data import OwnTable
from own_table_lines import Lines, in_child
from own_table_measure import measure
from own_table_plans import TABLES, Shape, choose, chosen, every_plan, plans_by_shape, plans_of_table, text_of
from own_table_rows import joined, pack
from own_table_structures import write_structures
from torch import nn

from vitsearch import backbones, stages
from vitsearch.compress import macs
from vitsearch.core.plan import Deployment, Plan
from vitsearch.core.policy import POLICY
from vitsearch.core.preprocessing import ModelView
from vitsearch.core.resolve import BlockStructure, ResolvedPlan, Scores, resolve
from vitsearch.export import EXPORTERS, ExportTask, deploy, evaluate
from vitsearch.search.plan_space import catalogue_of
from vitsearch.search.stage_config import data_spec, preprocessing_with
from vitsearch.stages.calibration import Calibration, Calibrations
from vitsearch.stages.parts.images import batches, drawn, load_data, predict
from vitsearch.stages.parts.models import compressed, refitted
from vitsearch.storage.files import FileStore
from vitsearch.tasks.classification.divergence import kl_divergences
from vitsearch.training import inference
from vitsearch_agent.artifacts import model_files
from vitsearch_agent.base.canonical_json import digest

STRUCTURE, QUANTIZATION = Calibration(256, 0), Calibration(32, 0)
SEED = 0
LATE = "openvino int8_ptq"


@dataclass(frozen=True)
class Cut:
    """A shape with all that is needed to build it."""

    key: str
    plans: tuple[Plan, ...]
    spec: stages.CompressionSpec

    @property
    def plan(self) -> Plan:
        return self.plans[0]


class Builder:
    """What plans share: data, bases, block structures and the logits of teachers. Bases that are trained stay beside
    the lines."""

    def __init__(self, lines: Lines) -> None:
        space, folder = plans_of_table().space, lines.path.with_suffix(".work")
        stores = FileStore(folder / "artifacts"), FileStore(folder / "scratch")
        self.workspace = stages.Workspace(data_spec(space), *stores, folder / "cache", networks=space.networks)
        self.images = load_data(self.workspace)
        self._lines = lines
        self._preprocessing = preprocessing_with(self.images.to_json(), catalogue_of(space))
        self.names: dict[str, list[Shape]] = {}
        """The shapes that resolve to each of `cuts`."""
        self._structures: dict[stages.Source, tuple[BlockStructure, Scores, str]] = {}
        self._references: dict[str, stages.Reference] = {}
        self._targets: dict[str, stages.DistillationTargets] = {}

    @property
    def structures(self) -> Mapping[stages.Source, tuple[BlockStructure, Scores, str]]:
        """Of every backbone and resolution of the table, with the digest of the statistics."""
        assert self.cuts  # which look at each
        return self._structures

    @cached_property
    def cuts(self) -> dict[str, Cut]:
        """Every shape of the table once, however many plans resolve to it; backbones in turn, strata in turn."""
        cuts_by_name: dict[str, Cut] = {}
        for shape, plans in in_turn(plans_by_shape(every_plan())):
            spec = self._spec(plans[0], shape)
            key = digest(spec.resolved.kept_indices())[:12]
            self.names.setdefault(key, []).append(shape)
            if key not in cuts_by_name:
                cuts_by_name[key] = Cut(key, tuple(plans), spec)
        return cuts_by_name

    def view_of(self, plan: Plan) -> ModelView:
        return ModelView(plan.resolution, self._preprocessing(plan.backbone, plan.weights, plan.preprocessing))

    def family(self, plan: Plan) -> backbones.Backbone:
        return backbones.find(plan.backbone, self.workspace.networks)

    def base(self, plan: Plan) -> stages.Base:
        """The unpruned model of a plan's backbone, trained at the first call of all."""
        unit = f"base:{plan.backbone}"
        if unit not in self._lines.rows:
            recipe, unfinished = plans_of_table().space.task.base.recipe(SEED), self.workspace.cache / plan.backbone
            base = stages.BaseJob(self.workspace, self._start(plan), recipe, checkpoint=unfinished).work()
            row = {"weights_sha256": base.weights_sha256, "qualities": dict(base.qualities), "n": base.n}
            self._lines.add(unit, row)
        return stages.Base(**{name: self._lines.rows[unit][name] for name in ("weights_sha256", "qualities", "n")})

    def _start(self, plan: Plan) -> stages.Source:
        native = plans_of_table().native_resolution(plan.backbone)
        return stages.Source(plan.backbone, plan.weights, native, self.view_of(plan).preprocessing)

    def source(self, plan: Plan) -> stages.Source:
        """The unpruned model at its own resolution."""
        start = self._start(plan)
        if plan.weights == "builtin":
            return start
        return replace(start, weights=f"{stages.STORED}{self.base(plan).weights_sha256}", trained_at=start.resolution)

    def _spec(self, plan: Plan, shape: Shape) -> stages.CompressionSpec:
        source = replace(self.source(plan), resolution=plan.resolution)
        if source not in self._structures:
            stored = stages.BlockStructureJob(self.workspace, source, STRUCTURE).work()
            parsed = BlockStructure.from_json(stored.block_structure), Scores.from_json(stored.scores)
            self._structures[source] = (*parsed, stored.statistics_sha256)
        structure, scores, statistics_sha256 = self._structures[source]
        resolved: ResolvedPlan = resolve(plan, structure, scores)
        native = plans_of_table().native_resolution(plan.backbone)
        calibrations = Calibrations.of(resolved, structure, native, STRUCTURE)
        return stages.CompressionSpec(source, resolved, statistics_sha256, calibrations)

    def reference(self, plan: Plan) -> stages.Reference:
        name = plan.backbone
        if name not in self._references:
            stored = stages.LogitsJob(self.workspace, self.source(plan), "holdout", plan.recipe).work()
            self._references[name] = stages.Reference(stored.sha256, self.base(plan).qualities)
        return self._references[name]

    def targets(self, plan: Plan) -> stages.DistillationTargets:
        name = plan.backbone
        if name not in self._targets:
            stored = stages.LogitsJob(self.workspace, self.source(plan), "train", plan.recipe).work()
            self._targets[name] = stages.DistillationTargets("logits", stored.sha256)
        return self._targets[name]

    def judged(self, model: nn.Module, cut: Cut) -> stages.Evaluation:
        """As the worker judges rung 0 (`stages/parts/judging.py`)."""
        images, reference, plan = self.images, self.reference(cut.plan), cut.plan
        logits = predict(model, images.train.images, self.view_of(plan), images.holdout)
        base = np.load(self.workspace.store.get(reference.outputs_sha256))
        labels, kl = images.train.labels[images.holdout], float(kl_divergences(base, logits).mean())
        remembered = inference.accuracy(base, labels) - reference.qualities["accuracy"]
        kept = remembered * math.exp(-kl / POLICY.rung_zero.forgetting_kl)
        return stages.Evaluation({"accuracy": inference.accuracy(logits, labels) - kept}, kl, len(logits))

    def right(self, model: nn.Module, cut: Cut, first: int | None = None) -> np.ndarray:
        """Which of the (first) validation images the model classifies right."""
        split = self.images.validation
        logits = predict(model, split.images[:first], self.view_of(cut.plan))
        right: np.ndarray = logits.argmax(1) == split.labels[:first]
        return right


def in_turn(shapes: dict[Shape, list[Plan]]) -> Iterator[tuple[Shape, list[Plan]]]:
    """The shapes in a seeded order in which every start is spread: backbones in turn, the
    plain ViT half as often, and of each backbone the strata
    of resolution, depth and tokens in turn."""
    draw = random.Random(SEED)
    strata: dict[str, dict[Any, list[Shape]]] = {}
    for shape in shapes:
        backbone, resolution, cut = shape
        stratum = resolution, cut.depth_pruning_ratio, cut.token_pruning_ratio, cut.token_pruning_method
        strata.setdefault(backbone, {}).setdefault(stratum, []).append(shape)
    queues = []
    for of_backbone in strata.values():
        for members in of_backbone.values():
            draw.shuffle(members)
        rows = zip_longest(*of_backbone.values())
        order = [shape for row in rows for shape in row if shape is not None]
        queues += [order[::2], order[1::2]] if order[0][0] != "vit_fmnist_p4" else [order]
    for row in zip_longest(*queues):
        yield from ((shape, shapes[shape]) for shape in row if shape is not None)


# ---- build


def build(lines: Lines, seconds: float, part: int, parts: int) -> None:
    """Every shape, then the files that take longest to write; of `parts` processes this is number `part`."""
    builder = Builder(lines)
    mine = list(builder.cuts.items())[part::parts]
    end = time.monotonic() + seconds
    for key, cut in mine:
        if f"shape:{key}" not in lines.rows and time.monotonic() < end:
            lines.add(f"shape:{key}", shape_row(builder, cut, lines.files / key))
    for key, cut in mine:
        shape = lines.rows.get(f"shape:{key}")
        is_made = shape is None or not is_late(cut) or LATE in shape["files"] or f"late:{key}" in lines.rows
        if not is_made and time.monotonic() < end:
            lines.add(f"late:{key}", {"key": key, "files": late_files(builder, cut, lines.files / key)})


def is_late(cut: Cut) -> bool:
    """Whether OpenVINO's int8 file waits for all other work: of these backbones NNCF takes as long as that together,
    so at first every sixth shape has one."""
    has_one = any(text_of(plan.deployment) == LATE for plan in cut.plans)
    return has_one and cut.plan.backbone != "efficientvit_fmnist" and int(cut.key, 16) % 6 != 0


def late_files(builder: Builder, cut: Cut, folder: Path) -> dict[str, Any]:
    """The int8 file of OpenVINO, from the same weights once more."""
    (plan,) = (late for late in cut.plans if text_of(late.deployment) == LATE)
    model = refitted(cut.spec, builder.workspace)
    pixels = (1, builder.images.identity.channels, *plan.resolution.sides)
    ships = deploy.deployed(model, builder.family(plan), pixels)
    unseen = Unseen.of(builder, plan)
    return {LATE: in_child(lambda: file_row(ships, plan, plan.deployment, unseen, folder))}


def shape_row(builder: Builder, cut: Cut, folder: Path) -> dict[str, Any]:
    plan = cut.plan
    builder.reference(plan)  # not timed: once for all
    start = time.process_time()
    model = refitted(cut.spec, builder.workspace)
    begun = time.process_time()
    evaluation = builder.judged(model, cut)
    judged = time.process_time()
    whole = (
        plan.backbone != "vit_fmnist_p4" or evaluation.divergence < POLICY.rung_zero.small_kl
    )  # where it decides, or costs little
    right = builder.right(model, cut, None if whole else chosen().rounded_images)
    pixels = (1, builder.images.identity.channels, *plan.resolution.sides)
    macs_m, params_m = macs.count(model, torch.zeros(pixels))
    shutil.rmtree(folder, ignore_errors=True)
    ships = deploy.deployed(model, builder.family(plan), pixels)
    unseen = Unseen.of(builder, plan)
    files = {
        text_of(target): in_child(lambda target=target: file_row(ships, plan, target, unseen, folder))  # type: ignore[misc]
        for target in exported(cut.plans)
        if not (is_late(cut) and text_of(target) == LATE)
    }
    return {
        "key": cut.key,
        "backbone": plan.backbone,
        "resolution": plan.resolution.to_json(),
        "macs_m": round(macs_m, 4),
        "params_m": round(params_m, 4),
        "holdout": round(evaluation.qualities["accuracy"], 5),
        "kl": round(evaluation.divergence, 6),
        "validation": float(right.mean()),
        "validation_images": len(right),
        "correct": int(right[: chosen().rounded_images].sum()),
        "base": builder.reference(plan).qualities["accuracy"],
        "refit_cpu_s": round(begun - start, 3),
        "judge_cpu_s": round(judged - begun, 3),
        "files": files,
    }


@dataclass(frozen=True, eq=False)
class Unseen:
    """Images that calibrate a file, and validation images with labels that judge it, for a family."""

    family: str
    calibration: np.ndarray
    images: np.ndarray
    labels: np.ndarray

    @classmethod
    def of(cls, builder: Builder, plan: Plan) -> Unseen:
        images, view, count = builder.images, builder.view_of(plan), chosen().rounded_images
        wanted = np.concatenate(list(batches(images.validation.images[:count], view)))
        calibration = drawn(builder.workspace, QUANTIZATION, view).numpy()
        return cls(builder.family(plan).family, calibration, wanted, images.validation.labels[:count])


def file_row(ships: nn.Module, plan: Plan, deployment: Deployment, unseen: Unseen, folder: Path) -> dict[str, Any]:
    """Write the file of a deployment, and judge it where it rounds; OpenVINO's fp32 file in bf16."""
    into = folder / text_of(deployment).replace(" ", "-")
    shutil.rmtree(into, ignore_errors=True)
    into.mkdir(parents=True)
    begin = time.process_time()
    task = ExportTask(unseen.family, deployment, unseen.calibration)
    written = EXPORTERS.get(deployment.runtime)().export(ships, task, into)
    spent = time.process_time() - begin
    path, job = evaluate.judging_job(written, deployment)
    keep_only(path)
    judged = {} if deployment.precision == "fp32" else {text_of(deployment): job}
    if text_of(deployment) == "openvino fp32":
        judged["openvino bf16"] = replace(job, options=job.options | {evaluate.ARITHMETIC: "bf16"})
    logits = {name: evaluate.logits(path, unseen.images, 1, job=how) for name, how in judged.items()}
    return {
        "file": str(path.relative_to(folder.parent)),
        "runtime": job.runtime,
        "options": job.options,
        "bytes": sum(Path(name).stat().st_size for name in model_files(str(path)).values()),
        "export_cpu_s": round(spent, 3),
        "correct": {name: int((rows.argmax(1) == unseen.labels).sum()) for name, rows in logits.items()},
    }


def exported(plans: Sequence[Plan]) -> list[Deployment]:
    """One deployment for each file: OpenVINO computes in bf16 from its fp32 file."""
    return [plan.deployment for plan in plans if plan.deployment.precision != "bf16"]


def keep_structures(lines: Lines, path: Path) -> None:
    found = Builder(lines).structures.items()
    write_structures(
        path,
        (
            (source.backbone, source.resolution.height, structure.to_json(), scores.to_json())
            for source, (structure, scores, _) in found
        ),
    )


def keep_only(path: Path) -> None:
    """Delete what lies beside a model and does not belong to it."""
    wanted = {Path(name) for name in model_files(str(path)).values()}
    for other in path.parent.iterdir():
        if other not in wanted:
            other.unlink()


# ---- train


def train(lines: Lines, seconds: float, beyond: Path | None = None) -> None:
    builder = Builder(lines)
    keys = chosen_to_train(lines, builder) if beyond is None else untrained(beyond, builder)
    end = time.monotonic() + seconds
    for key in keys:
        cut = builder.cuts[key]
        checkpoint: str | None = None
        before: stages.Evaluation | None = None
        rungs = cut.plan.recipe.rungs
        if f"training:{key}:{rungs[-1]}" in lines.rows:
            continue
        for start, rung in zip(rungs, rungs[1:], strict=False):
            if time.monotonic() > end:
                return
            row, trained = training_row(builder, cut, (start, rung), checkpoint, before)
            checkpoint, before = trained.checkpoint_sha256, trained.evaluation
            lines.add(f"training:{key}:{rung}", row)


def chosen_to_train(lines: Lines, builder: Builder) -> list[str]:
    """The shapes to train: of each backbone half as they come in their spread order, and half of those that are on or
    near a front of accuracy at rung 0 and multiplications. The same at every call once all shapes are built. Where the
    table names no numbers, every shape in the spread order."""
    if not chosen().trained:
        return list(builder.cuts)
    queues = []
    for backbone, count in chosen().trained.items():
        shapes = [(key, cut) for key, cut in builder.cuts.items() if cut.plan.backbone == backbone]
        spread = [key for key, _ in shapes][: count // 2]
        built = [lines.rows[f"shape:{key}"] for key, _ in shapes if f"shape:{key}" in lines.rows]
        near = [row["key"] for row in near_front(built) if row["key"] not in spread][: count - len(spread)]
        already = [unit.split(":")[1] for unit in lines.rows if unit.startswith("training:")]
        mine = [key for key in dict.fromkeys(already) if builder.cuts[key].plan.backbone == backbone]
        queues.append(list(dict.fromkeys([*mine, *spread, *near]))[:count])
    return [key for row in zip_longest(*queues) for key in row if key is not None]


def untrained(table: Path, builder: Builder) -> list[str]:
    """Every shape that needs a training and has none in the table: those of one backbone after the other, the plain
    ViT last, whose trainings take longest."""
    shapes = OwnTable.read(table).shapes
    if missing := builder.cuts.keys() - shapes.keys():
        raise SystemExit(f"{len(missing)} of {len(builder.cuts)} shapes are not in {table}: they are cut otherwise now")
    keys = [key for key in builder.cuts if not (shapes[key].rungs or shapes[key].needs_no_training)]
    return sorted(keys, key=lambda key: shapes[key].backbone)


def near_front(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The fewest multiplications for the least divergence: layer by layer of non-dominated shapes."""
    left, ordered = sorted(rows, key=lambda row: (row["macs_m"], row["kl"])), []
    while left:
        least, layer = math.inf, []
        for row in left:
            if row["kl"] < least:
                least = row["kl"]
                layer.append(row)
        ordered += random.Random(SEED).sample(layer, len(layer))
        left = [row for row in left if row not in layer]
    return ordered


def training_row(
    builder: Builder, cut: Cut, rungs: tuple[int, int], checkpoint: str | None, before: stages.Evaluation | None
) -> tuple[dict[str, Any], stages.Trained]:
    plan, workspace = cut.plan, builder.workspace
    reference, targets = builder.reference(plan), builder.targets(plan)
    if before is None:
        before = stages.ProxyJob(workspace, cut.spec, reference).work()
    begin = time.process_time()
    job = stages.TrainJob(workspace, cut.spec, plan.recipe, *rungs, checkpoint, targets, reference, before)
    trained = job.work()
    spent = time.process_time() - begin
    model = compressed(cut.spec, workspace, trained.checkpoint_sha256)
    row = {
        "key": cut.key,
        "rung": rungs[1],
        "holdout": round(trained.evaluation.qualities["accuracy"], 5),
        "kl": round(trained.evaluation.divergence, 6),
        "validation": float(builder.right(model, cut).mean()),
        "kept": trained.kept,
        "steps": trained.steps,
        "cpu_s": round(spent, 2),
    }
    if rungs[1] == plan.recipe.rungs[-1] and not chosen().is_completed:
        row["exported"] = exported_accuracies(builder, cut, model)
    return row, trained


def exported_accuracies(builder: Builder, cut: Cut, model: nn.Module) -> dict[str, float]:
    """What the files of trained weights reach on the validation images, by deployment, where these round."""
    plan = cut.plan
    ships = deploy.deployed(model, builder.family(plan), (1, builder.images.identity.channels, *plan.resolution.sides))
    unseen, found = Unseen.of(builder, plan), dict[str, float]()
    for deployment in exported(cut.plans):
        if deployment.precision != "fp32":
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name) / "files"
                row = in_child(lambda target=deployment, into=folder: file_row(ships, plan, target, unseen, into))  # type: ignore[misc]
            found |= {each: correct / len(unseen.labels) for each, correct in row.get("correct", {}).items()}
    return found


def packed(lines: Lines, table: Path) -> None:
    """Write the table that searches read."""
    builder = Builder(lines)
    shapes = len(builder.cuts)
    loads = [row["load"][0] for unit, row in lines.rows.items() if unit.startswith("cost:") and "load" in row]
    about = {
        "shapes": shapes,
        "load_while_measuring": [min(loads), statistics.median(loads), max(loads)],
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "onnxruntime", "openvino", "nncf")},
        "cpu": processor(),
    }
    table.write_bytes(pack(lines.rows.values(), builder.names, about))
    print(f"{table}: {table.stat().st_size / 1e3:.0f} kB")


def processor() -> str:
    lines = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return lines[0].partition(":")[2].strip() if lines else "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("build", "measure", "train"):
        command = commands.add_parser(name)
        command.add_argument("file", type=Path)
        command.add_argument("--seconds", type=float, default=math.inf)
        if name == "train":
            command.add_argument("--beyond", type=Path, metavar="TABLE")
        if name == "build":
            command.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("NUMBER", "OF"))
    for name in ("pack", "join", "make"):
        command = commands.add_parser(name)
        command.add_argument("file", type=Path)
        command.add_argument("table", type=Path)
    keeping = commands.add_parser("structures")
    keeping.add_argument("file", type=Path)
    keeping.add_argument("structures", type=Path)
    completing = commands.add_parser("complete")
    completing.add_argument("table", type=Path)
    completing.add_argument("completions", type=Path)
    for command in commands.choices.values():
        command.add_argument("--table", dest="of", choices=TABLES, default="own", help="which table (default: own)")
    options = parser.parse_args()
    choose(options.of)
    if options.command == "complete":
        OwnTable.read(options.table).completed().write(options.completions)
        return
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    lines = Lines(options.file)
    if options.command == "structures":
        keep_structures(lines, options.structures)
    if options.command in ("build", "make"):
        build(lines, *((options.seconds, *options.part) if options.command == "build" else (math.inf, 0, 1)))
    if options.command in ("measure", "make"):
        measure(lines, math.inf if options.command == "make" else options.seconds)
    if options.command == "train":
        train(lines, options.seconds, options.beyond)
    if options.command == "make":
        train(lines, math.inf)
    if options.command == "join":
        options.table.write_bytes(joined(options.table.read_bytes(), lines.rows.values()))
    if options.command in ("pack", "make"):
        packed(lines, options.table)


if __name__ == "__main__":
    main()
