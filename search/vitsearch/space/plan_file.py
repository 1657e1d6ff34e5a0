"""A plan file becomes a plan; what the file leaves out comes from a space file or from the defaults."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path as FilePath
from typing import Any, NamedTuple, get_args

from vitsearch.core import legality
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Compression, Deployment, Plan
from vitsearch.core.precisions import AUTO, default_provider, opens_batch, takes_threads
from vitsearch.core.targets import TARGETS
from vitsearch.errors import PlanError, UnknownName
from vitsearch.space.checks.support import Supports
from vitsearch.space.checks.valid_parts import SearchedValues
from vitsearch.space.knobs import Distillation, Knobs, TokenPruning
from vitsearch.space.load import Draft, draft_of
from vitsearch.space.model import LOCAL_DEVICE, SearchSpace
from vitsearch.space.plan_values import PlanValues, read_words
from vitsearch.space.problems import Problem, report_lines
from vitsearch.space.section_base import default_weights
from vitsearch.space.task import FineTune

ANY_RESOLUTION = ImageSize.square(224)  # judged only when the backbone is known
OF_THE_SPACE = (
    "distillation",
    "quantization",
    "quantized_ops",
    "backend",
    "batch",
    "token_pruning_method",
    "width_multiple",
)
"""Knobs whose first value in the space file is filled in. Others are filled in with what compresses nothing."""


class Backbones(NamedTuple):
    """What is asked about backbones; see `vitsearch.backbones`."""

    supports: Supports
    native_resolution: Callable[[str], ImageSize]


@dataclass(frozen=True)
class WrittenPlan:
    """A plan that can be built. `filled_in` has what every plan needs and the file leaves out, as key and value."""

    plan: Plan
    filled_in: dict[str, Any]


def read_plan(path: FilePath, space: SearchSpace | None, backbones: Backbones) -> WrittenPlan:
    """Read the plan in `path` (`-`: standard input) and fill in the rest from `space` or from the defaults.

    Raises one `PlanError` with every reason why the plan cannot be built.
    """
    words = read_words(path)
    draft = draft_of(words.over(_base(words, space, backbones)), words.source.path, [])
    problems = [*draft.problems, *_several_values(draft.searched)]
    wrong = {part for problem in problems for part in problem.path}
    device = words.device or (space.device_name if space is not None else LOCAL_DEVICE)
    plan = _plan(draft, words, device, backbones.supports) if draft.searched.backbones else None
    if plan is not None:
        problems += (problem for problem in _refused(plan, backbones.supports) if problem.path[-1] not in wrong)
    located = (words.source.located(words.own(problem)) for problem in problems)
    lines = report_lines(words.source.path, [*words.problems, *located])
    if lines or plan is None:
        count = f"{len(lines)} problem{'s' if len(lines) != 1 else ''}"
        raise PlanError("\n".join([f"{words.source.path}: {count}", *(f"  {line}" for line in lines)]))
    return WrittenPlan(plan, _filled_in(plan, words))


def _base(words: PlanValues, space: SearchSpace | None, backbones: Backbones) -> dict[str, Any]:
    """A space file with what the words of the plan leave out."""
    name = words.backbone or (space.space.backbone[0].name if space is not None else None)
    knobs: dict[str, Any] = {"resolution": [ANY_RESOLUTION.to_json()]}
    if space is not None:
        knobs |= {knob: _first(getattr(space.space, knob)) for knob in OF_THE_SPACE}
        knobs["threads"] = space.threads[0]
        knobs["streams"] = space.space.streams[:1]
        has = TARGETS[words.runtime or space.space.backend[0]].providers
        knobs["provider"] = [provider for provider in space.space.provider if provider in has][:1]
    if name is not None:
        listed = {choice.name: choice for choice in space.space.backbone} if space is not None else {}
        start = {"name": name, "weights": default_weights(name)}
        if name in listed:  # with the preprocessing of its weights, unless the plan names others
            keys = {"name", "weights"} if words.has("weights") else None
            start = listed[name].model_dump(mode="json", include=keys)
        knobs["backbone"] = start
        knobs["resolution"] = [_resolution(name, space, backbones).to_json()]
    task: dict[str, Any] = {"data": {"source": "builtin:fashion-mnist-14k"}}
    if space is not None:
        task["fine_tune"] = space.task.fine_tune.model_dump(mode="json")
    search = {"seed": space.search.seed} if space is not None else {}
    objectives = {"accuracy": "maximize", "size_mb": "minimize"}
    return {"task": task, "objectives": objectives, "space": knobs, "search": search}


def _resolution(backbone: str, space: SearchSpace | None, backbones: Backbones) -> ImageSize:
    """The native resolution, unless the space lacks it: then its largest."""
    offered = space.space.resolution if space is not None else ()
    try:
        native = backbones.native_resolution(backbone)
    except UnknownName:  # reported with the backbone
        native = ANY_RESOLUTION
    return native if native in offered or not offered else max(offered)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, tuple) else value


def _several_values(searched: SearchedValues) -> Iterator[Problem]:
    for knob, values in {**searched.values, "backbone": searched.backbones}.items():
        if len(values) > 1:
            yield Problem(("space", knob), f"a plan has one value, not {len(values)}")


def _plan(draft: Draft, words: PlanValues, device: str, supports: Supports) -> Plan:
    """The plan of what is valid in `draft`; an invalid value, which is reported, is replaced by its default."""

    def value(knob: str) -> Any:
        return _first(draft.searched.choices(knob) or Knobs.model_fields[knob].default or None)

    _, backbone = draft.searched.backbones[0]
    deployment = _deployment(value, device, words)
    possible = _possible_ops(backbone.name, deployment, supports)
    tokens = value("token_pruning_ratio")
    names_method = bool(tokens) or words.has("token_pruning_method")
    return Plan(
        backbone=backbone.name,
        weights=backbone.weights,
        resolution=value("resolution") or ANY_RESOLUTION,
        window_size=value("window_size"),
        compression=Compression(
            head_pruning_ratio=value("head_pruning_ratio"),
            ffn_pruning_ratio=value("ffn_pruning_ratio"),
            token_pruning_ratio=tokens,
            token_pruning_method=value("token_pruning_method") if names_method else None,
            token_pruning_at=value("token_pruning_at") or (),
            depth_pruning_ratio=value("depth_pruning_ratio"),
            embed_pruning_ratio=value("embed_pruning_ratio"),
            weight_sparsity=value("weight_sparsity"),
            scope=value("pruning_scope"),
            width_multiple=value("width_multiple"),
        ),
        distillation=value("distillation"),
        recipe=draft.space.recipe(backbone.name) if draft.space else FineTune().recipe(0, backbone.name),
        deployments=(replace(deployment, quantized_ops=_ops(value("quantized_ops"), words, possible)),),
        preprocessing=backbone.preprocessing,
    )


def _deployment(value: Callable[[str], Any], device: str, words: PlanValues) -> Deployment:
    runtime = value("backend")
    provider = value("provider") or default_provider(runtime)
    word = value("batch")
    is_open = word == "open" and (words.has("batch") or opens_batch(runtime, provider))
    batch = None if is_open else int(word) if word.isdigit() else 1  # only a study finds out what auto is
    threads = (value("threads") or 1) if takes_threads(runtime, provider) or words.has("threads") else 1
    run = threads, value("streams") or None
    return Deployment(device, runtime, provider, value("quantization"), batch, None, words.options, *run)


def _possible_ops(backbone: str, deployment: Deployment, supports: Supports) -> tuple[str, ...]:
    try:
        return legality.possible_ops(backbone, deployment.runtime, deployment.provider, deployment.precision, supports)
    except UnknownName:  # reported with the backbone
        return ()


def _ops(wanted: str, words: PlanValues, possible: tuple[str, ...]) -> str | None:
    """What the file says; else what the space says, where it is possible. `auto` is the usual one, as of the
    batch."""
    if wanted != AUTO and words.has("quantized_ops"):
        return wanted
    return wanted if wanted in possible else next(iter(possible), None)


def _filled_in(plan: Plan, words: PlanValues) -> dict[str, Any]:
    values = {
        "backbone": plan.backbone,
        "weights": plan.weights,
        "resolution": plan.resolution.to_json(),
        "token_pruning_method": plan.compression.token_pruning_method,
        "distillation": plan.distillation,
        "quantization": plan.deployment.precision,
        "quantized_ops": plan.deployment.quantized_ops,
        "backend": plan.deployment.runtime,
        "provider": plan.deployment.provider,
        "batch": plan.deployment.batch or "open",
        "threads": plan.deployment.threads if plan.deployment.threads > 1 else None,
        "streams": plan.deployment.streams,
    }
    return {knob: value for knob, value in values.items() if value is not None and not words.has(knob)}


def _refused(plan: Plan, supports: Supports) -> Iterator[Problem]:
    for knob, text in legality.reasons(plan, supports):
        path = ("space", "backbone", "weights") if knob == "weights" else ("space", knob)
        yield Problem(path, text + _alternatives(plan, knob, supports))


def _alternatives(plan: Plan, knob: str, supports: Supports) -> str:
    """The words that the backbone supports; messages about numbers say themselves what is allowed."""
    words = {"distillation": get_args(Distillation), "token_pruning_method": get_args(TokenPruning)}.get(knob, ())
    allowed = ", ".join(word for word in words if supports(plan.backbone, knob, word) is None)
    return f"; allowed: {allowed}" if allowed else ""
