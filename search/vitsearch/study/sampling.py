"""The space of plans of a space file: the knobs of each backbone, and the conversion between plans and parameters.

A parameter name never changes its meaning. When the allowed values of a knob depend on another choice, the name
contains that choice (`resolution@deit_tiny_patch16_224`, `quantization@onnxruntime`). Numbers are floats that are
rounded to the nearest choice, so a study can gain or lose choices. Words are categorical; their order is stored in the
study, which only appends to it (`vitsearch.study.database.word_lists.WordLists`).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from vitsearch.core import precisions
from vitsearch.core.image_size import ImageSize
from vitsearch.core.legality import possible_ops
from vitsearch.core.plan import Compression, Deployment, Plan
from vitsearch.core.precisions import AUTO, TRAINED, default_provider, takes_threads
from vitsearch.study.knob_values import SHAPE
from vitsearch.study.suggest import FirstChoices, PlanAnswers, RandomChoices, Suggest, WaitingAnswers, nearest

if TYPE_CHECKING:
    from vitsearch.space import SearchSpace

OPEN = "open"
QUANTIZED_OPS, BATCH, THREADS, STREAMS = "quantized_ops", "batch", "threads", "streams"
FORM_KNOBS = (QUANTIZED_OPS, BATCH)
"""Knobs of the form of a file, which the leaderboard decides about where the space file says `auto`."""
Supports = Callable[[str, str, Any], str | None]
"""(backbone, knob, value) -> None when the backbone supports the value, otherwise the reason why not."""
Native = Callable[[str], ImageSize]
"""backbone -> the resolution at which its weights were trained."""
OwnWindow = Callable[[str, ImageSize], int | None]
"""(backbone, resolution) -> the window that the backbone has there by default, if all its windows are equal."""


@dataclass(frozen=True)
class Unpruned:
    """A model of the leaderboard."""

    backbone: str
    runtime: str
    provider: str
    precision: str

    @property
    def key(self) -> str:
        return "/".join((self.backbone, self.runtime, self.provider, self.precision))


FormLookup = Callable[[Unpruned, str], str | None]
"""(unpruned model, knob) -> the value of one of `FORM_KNOBS` that `auto` has found for it, None before."""


@dataclass(frozen=True)
class PlanSpace:
    """All plans of a space file that the backbones, the runtimes and the device support.

    `deployable` says why the device cannot run a deployment. `dropped` are backbones of the file that are not searched.
    """

    space: SearchSpace
    device: str
    supports: Supports
    native_resolution: Native
    own_window: OwnWindow = lambda backbone, resolution: None
    deployable: Callable[[Deployment], str | None] = lambda deployment: None
    form_of: FormLookup = lambda model, knob: None
    dropped: frozenset[str] = frozenset()

    def plan(self, suggest: Suggest) -> Plan:
        """Build a plan from the answers of `suggest`. Only this method defines the order of the knobs."""
        backbone = suggest.word("backbone", self.backbones())
        resolution = self._resolution(suggest, backbone)
        window = self._window(suggest, backbone, resolution)
        depth = suggest.number("depth_pruning_ratio", self._numbers(backbone, "depth_pruning_ratio"))
        embed = suggest.number("embed_pruning_ratio", self._numbers(backbone, "embed_pruning_ratio"))
        heads = suggest.number("head_pruning_ratio", self._numbers(backbone, "head_pruning_ratio"))
        ffn = suggest.number("ffn_pruning_ratio", self._numbers(backbone, "ffn_pruning_ratio"))
        scope = suggest.word("pruning_scope", self._choices("pruning_scope")) if heads or ffn else "uniform"
        sparsity = self._word(suggest, backbone, "weight_sparsity", self._sparsities(backbone))
        tokens = suggest.number("token_pruning_ratio", self._token_ratios(backbone))
        method, positions = self._token_pruning(suggest, backbone) if tokens else (None, ())
        distillation = self._word(suggest, backbone, "distillation", self._legal(backbone, "distillation"))
        deployment = self._deployment(suggest, backbone)
        start = self.space.start_of(backbone)
        return Plan(
            backbone=backbone,
            weights=start.weights,
            resolution=resolution,
            window_size=window,
            compression=Compression(
                head_pruning_ratio=heads,
                ffn_pruning_ratio=ffn,
                token_pruning_ratio=tokens,
                token_pruning_method=method,
                token_pruning_at=positions,
                depth_pruning_ratio=depth,
                embed_pruning_ratio=embed,
                weight_sparsity=sparsity,
                scope=scope,  # type: ignore[arg-type]  # checked when the file was read
                width_multiple=self.space.space.width_multiple,
            ),
            distillation=distillation,  # type: ignore[arg-type]  # checked when the file was read
            recipe=self.space.recipe(backbone),
            deployments=(deployment,),
            preprocessing=start.preprocessing,
        )

    def _deployment(self, suggest: Suggest, backbone: str) -> Deployment:
        runtime = suggest.word("backend", self._runtimes(backbone))
        provider = suggest.word(f"provider@{runtime}", self._providers(backbone, runtime))
        offered = self._precisions(backbone, runtime, provider)
        # By provider as well, where it decides what can be had.
        name = f"quantization@{runtime}" + ("" if len(self.providers(runtime)) == 1 else f"@{provider}")
        precision = self._word(suggest, backbone, name, offered)
        model = Unpruned(backbone, runtime, provider, precision)
        ops = self._form(suggest, f"{QUANTIZED_OPS}@{runtime}@{precision}", model)
        batch = self._form(suggest, f"{BATCH}@{runtime}", model)
        threads = int(suggest.number(THREADS, tuple(map(float, self._threads(model)))))
        deployment = Deployment(self.device, runtime, provider, precision, _batch(batch), ops, threads=threads)
        offered_streams = tuple(float(count) for count in self._streams(model, threads) if count is not None)
        streams = int(suggest.number(STREAMS, offered_streams)) if offered_streams else None
        return replace(deployment, streams=streams)

    def _form(self, suggest: Suggest, name: str, model: Unpruned) -> str | None:
        """The value of the knob of a form. One that `auto` has found is no question: it differs between models, and
        a parameter has the same choices for all."""
        offered = self._forms(name.partition("@")[0], model)
        return suggest.word(name, offered) if len(offered) > 1 else next(iter(offered), None)

    def _resolution(self, suggest: Suggest, backbone: str) -> ImageSize:
        """The chosen resolution: a number, which is the side of a square of as many pixels; then a word, where several
        shapes have so many."""
        offered = self.resolutions(backbone) or (self.native_resolution(backbone),)
        sides = tuple(dict.fromkeys(size.side for size in offered))
        chosen = nearest(suggest.number(f"resolution@{backbone}", sides), sides)
        shapes = {str(size): size for size in offered if size.side == chosen}
        first = next(iter(shapes.values()))
        if len(shapes) == 1:
            return first
        word = suggest.word(f"{SHAPE}@{backbone}@{first.pixels}", tuple(shapes))
        return shapes.get(word, first)  # a plan may have a shape that the file has lost

    def _window(self, suggest: Suggest, backbone: str, resolution: ImageSize) -> int | None:
        """The chosen window; `None` when the backbone has no windows, no window of the file fits, or the chosen one
        is the backbone's default."""
        offered = self._windows(backbone, resolution)
        if not offered:
            return None
        chosen = int(suggest.number(f"window_size@{backbone}@{resolution}", offered))
        return None if chosen == self.own_window(backbone, resolution) else chosen

    def _windows(self, backbone: str, resolution: ImageSize) -> tuple[float, ...]:
        """The windows of the file that divide the maps, in ascending order."""
        knob = f"window_size@{resolution}"
        fitting = (size for size in self._choices("window_size") if self.supports(backbone, knob, size) is None)
        return tuple(sorted(map(float, fitting)))

    def _word(self, suggest: Suggest, backbone: str, name: str, legal: tuple[str, ...]) -> str:
        """Ask for a word. The name contains the backbone when it supports only a part of the file's choices."""
        offered = self._choices(name.partition("@")[0])
        return suggest.word(name if legal == offered else f"{name}@{backbone}", legal)

    def _token_pruning(self, suggest: Suggest, backbone: str) -> tuple[str, tuple[int, ...]]:
        method = suggest.word(f"token_pruning_method@{backbone}", self._legal(backbone, "token_pruning_method"))
        written = suggest.word(f"token_pruning_at@{backbone}", self._positions(backbone))
        return method, tuple(map(int, written.split(",") if written else ()))

    def _token_ratios(self, backbone: str) -> tuple[float, ...]:
        """The ratios of the file; only 0 for a backbone that supports no method of the file."""
        methods = self._legal(backbone, "token_pruning_method")
        return self._numbers(backbone, "token_pruning_ratio") if methods else (0.0,)

    def _sparsities(self, backbone: str) -> tuple[str, ...]:
        """The sparsities of the file; only `none` for a backbone that supports no sparsity of the file."""
        return self._legal(backbone, "weight_sparsity") or ("none",)

    def _positions(self, backbone: str) -> tuple[str, ...]:
        """The lists of blocks, each as one word; the empty word stands for the method's default positions."""
        return tuple(",".join(map(str, blocks)) for blocks in self._legal(backbone, "token_pruning_at")) or ("",)

    def parameters(self, plan: Plan) -> dict[str, str | float]:
        """The parameters that lead to `plan`. Enqueue them to try exactly this plan."""
        answers = self._answers(plan)
        self.plan(answers)
        return answers.parameters

    def _answers(self, plan: Plan) -> PlanAnswers:
        window = plan.window_size or self.own_window(plan.backbone, plan.resolution)
        return PlanAnswers(plan, window)

    def contains(self, plan: Plan) -> bool:
        """Whether the file allows `plan`. A resumed study may have plans whose choices the file has dropped."""
        return self._with_its_choices(plan) == plan

    def covers(self, plan: Plan) -> bool:
        """Whether the file has the choices and the weights of `plan`. Unlike `contains`, the recipe and the name of the
        device may differ, and what `auto` may have found since."""
        own, deployment = self._with_its_choices(plan), plan.deployment
        if own is None:
            return False
        forms = {knob: getattr(deployment, knob) for knob in FORM_KNOBS if self.finds(knob)}
        deployed = replace(own.deployment, device=deployment.device, options=deployment.options, **forms)
        return replace(own, recipe=plan.recipe, deployments=(deployed,)) == plan

    def _with_its_choices(self, plan: Plan) -> Plan | None:
        """The plan that the choices of `plan` lead to; None where the file lacks one of them."""
        if plan.backbone not in self.backbones():
            return None
        answers = self._answers(plan)
        try:
            own = self.plan(answers)
        except ValueError:
            return None
        return None if answers.off_space else own

    def lacks(self, parameters: Mapping[str, Any]) -> list[str]:
        """`NAME=VALUE` of the parameters of a trial that this file does not have: another file, or an older one, has
        enqueued it."""
        answers = WaitingAnswers(parameters)
        try:
            self.plan(answers)
        except ValueError:  # what it lacks leads nowhere
            return answers.outside or [f"{name}={value}" for name, value in parameters.items()]
        return answers.outside

    def proposes(self, plan: Plan) -> bool:
        """Whether a sampler may propose `plan`, which the space contains: not in a runtime that lowers slowly where its
        backbone has another runtime. Such plans are asked for when their weights are trained
        (`vitsearch.search.plan_requests`)."""
        if not precisions.lowers_slowly(plan.deployment.runtime):
            return True
        return all(precisions.lowers_slowly(runtime) for runtime in self._runtimes(plan.backbone))

    def leaderboard(self) -> Iterator[Plan]:
        """The plan of each of `unpruned_models` in each of its `measured_runs`."""
        return (self.unpruned(model, **run) for model in self.unpruned_models() for run in self.measured_runs(model))

    def unpruned_models(self) -> Iterator[Unpruned]:
        """Every backbone at the resolution of its base, in every precision, runtime and provider."""
        for backbone in self.backbones():
            yield from self._unpruned(backbone)

    def _unpruned(self, backbone: str) -> Iterator[Unpruned]:
        for runtime in self._runtimes(backbone):
            for provider in self.providers(runtime):
                for precision in self._precisions(backbone, runtime, provider):
                    yield Unpruned(backbone, runtime, provider, precision)

    def measured_runs(self, model: Unpruned) -> Iterator[dict[str, str]]:
        """The batches, threads and streams in which the leaderboard has a model: the first batch with the fewest
        threads and streams, and in one precision of a backbone in a runtime and provider each other batch and each
        other number of threads and of streams. What they change follows for all other models
        (`vitsearch.search.expected_leaders`)."""
        yield {}
        if model == self.varied(model):
            yield from ({BATCH: word} for word in self._forms(BATCH, model)[1:])
            least, *more = self._threads(model)
            yield from ({THREADS: str(threads)} for threads in more)
            yield from ({STREAMS: str(streams)} for streams in self._streams(model, least)[1:])

    def runs(self, model: Unpruned) -> Iterator[dict[str, str]]:
        """Every batch of a model with every number of threads and of streams."""
        for word, threads in itertools.product(self._forms(BATCH, model), self._threads(model)):
            for streams in self._streams(model, threads):
                yield {BATCH: word, THREADS: str(threads)} | _named_streams(streams)

    def run_of(self, deployment: Deployment) -> dict[str, str]:
        """The batch, threads and streams of a deployment, as `runs` has them, but for a batch that the leaderboard
        finds."""
        batch = OPEN if deployment.batch is None else str(deployment.batch)
        run = {THREADS: str(deployment.threads)} | _named_streams(deployment.streams)
        return run if self.finds(BATCH) else {BATCH: batch} | run

    def varied(self, model: Unpruned) -> Unpruned:
        """The model in the precision in which it is measured in several batches and threads: the first one that needs
        no training."""
        precisions_of = self._precisions(model.backbone, model.runtime, model.provider)
        untrained = (precision for precision in precisions_of if precision not in TRAINED)
        return replace(model, precision=next(untrained, model.precision))

    def baseline(self) -> Plan:
        """The fp32 plan to which relative limits refer. Its backbone need not be in the space."""
        base = self.space.baseline
        return Plan(
            backbone=base.backbone,
            weights=base.weights,
            resolution=self.space.baseline_resolution,
            window_size=None,
            compression=Compression(width_multiple=self.space.space.width_multiple),
            # Without effect here; equal to that of the leaderboard, so that a model on both is built once.
            distillation=self._choices("distillation")[0],
            recipe=self.space.recipe(base.backbone),
            deployments=(self._baseline_deployment(),),
            preprocessing=base.preprocessing,
        )

    def _baseline_deployment(self) -> Deployment:
        model = self.baseline_model()
        batch, threads = _batch(self._forms(BATCH, model)[0]), self._threads(model)[0]
        streams = self._streams(model, threads)[0]
        return Deployment(self.device, model.runtime, model.provider, "fp32", batch, threads=threads, streams=streams)

    def baseline_model(self) -> Unpruned:
        """The baseline in fp32, in the first runtime and provider of the file that the device has."""
        backbone = self.space.baseline.backbone
        runtime = (self._runtimes(backbone) or self._choices("backend"))[0]
        providers = self._providers(backbone, runtime) or self.providers(runtime) or (default_provider(runtime),)
        return Unpruned(backbone, runtime, providers[0], "fp32")

    def unpruned(self, model: Unpruned, **form: str) -> Plan:
        """The plan of a model of the leaderboard, in the form that is kept for it, but for the knobs of `form`."""
        words = form | {
            "backbone": model.backbone,
            "backend": model.runtime,
            "provider": model.provider,
            "quantization": model.precision,
        }
        plans = replace(self, form_of=lambda model, knob: form.get(knob) or self.form_of(model, knob))
        return plans.plan(FirstChoices(words, self.base_resolution(model.backbone))).unpruned()

    def base_resolution(self, backbone: str) -> ImageSize:
        """The resolution at which the unpruned model is trained, if needed, and measured.

        It is the native resolution if the space has it, otherwise the largest that the space has for this backbone. A
        backbone outside the space keeps its native resolution; the baseline has its own key.
        """
        native = self.native_resolution(backbone)
        if backbone == self.space.baseline.backbone and backbone not in self.backbones():
            return self.space.baseline_resolution
        if backbone not in self.backbones():
            return native
        offered = self.resolutions(backbone) or (native,)
        return native if native in offered else offered[-1]

    def random(self, rng: random.Random) -> Plan:
        """A plan with every choice drawn uniformly."""
        return self.plan(RandomChoices(rng))

    def count(self) -> int:
        """The number of plans; plans that resolve to the same model are counted separately."""
        total = 0
        for backbone in self.backbones():
            knobs = ("depth_pruning_ratio", "embed_pruning_ratio")
            seen = sum(len(self._windows(backbone, size)) or 1 for size in self.resolutions(backbone)) or 1
            total_of = [seen, *(len(self._numbers(backbone, knob)) for knob in knobs)]
            cut = [self._numbers(backbone, knob) for knob in ("head_pruning_ratio", "ffn_pruning_ratio")]
            deployments = sum(map(self._count_forms, self._unpruned(backbone)))
            scopes = len(self._choices("pruning_scope"))
            shapes = sum(scopes if heads or ffn else 1 for heads, ffn in itertools.product(*cut))
            words = [len(self._legal(backbone, knob) or ("none",)) for knob in ("weight_sparsity", "distillation")]
            total += math.prod([*total_of, shapes, *words, self._count_token_prunings(backbone), deployments])
        return total

    def _count_forms(self, model: Unpruned) -> int:
        runs = sum(len(self._streams(model, threads)) for threads in self._threads(model))
        return runs * math.prod(len(self._forms(knob, model)) or 1 for knob in FORM_KNOBS)

    def _count_token_prunings(self, backbone: str) -> int:
        methods = len(self._legal(backbone, "token_pruning_method")) * len(self._positions(backbone))
        return sum(methods if ratio else 1 for ratio in self._token_ratios(backbone))

    def resolutions(self, backbone: str) -> tuple[ImageSize, ...]:
        """The resolutions of the file that a backbone supports, in ascending order: by their pixels."""
        return tuple(sorted(self._legal(backbone, "resolution")))

    def unpruned_of(self, backbone: str) -> tuple[Unpruned, ...]:
        """The models of the leaderboard that are of one backbone."""
        return tuple(self._unpruned(backbone))

    def backbones(self) -> tuple[str, ...]:
        return tuple(choice.name for choice in self.space.space.backbone if choice.name not in self.dropped)

    def providers(self, runtime: str) -> tuple[str, ...]:
        """The providers of the file that the runtime has; its default one when the file names none."""
        return precisions.providers_of(runtime, self._choices("provider"))

    def _runtimes(self, backbone: str) -> tuple[str, ...]:
        """The runtimes of the file with a precision that the backbone and the device support."""
        return tuple(runtime for runtime in self._legal(backbone, "backend") if self._providers(backbone, runtime))

    def _providers(self, backbone: str, runtime: str) -> tuple[str, ...]:
        """The providers of the file with a precision that the backbone and the device support."""
        return tuple(provider for provider in self.providers(runtime) if self._precisions(backbone, runtime, provider))

    def _forms(self, knob: str, model: Unpruned) -> tuple[str, ...]:
        """The values of the knob that are searched: the one that `auto` has found, or those of the file."""
        tried = self.tried_forms(knob, model)
        if not self.finds(knob):
            return tried
        form = self.form_of(model, knob)
        return (form,) if form in tried else tried[:1]

    def tried_forms(self, knob: str, model: Unpruned) -> tuple[str, ...]:
        """The values of the file that the unpruned model can have, or the usual one if it can have none of them; with
        `auto` all that it can have, the usual one first. Empty for a knob that does not concern it."""
        possible = self._possible_forms(knob, model)
        if self.finds(knob):
            return possible
        if knob == BATCH:  # any number that the backbone takes
            words = (word for word in self._choices(knob) if word != OPEN or word in possible)
            legal = (word for word in words if self.supports(model.backbone, BATCH, word) is None)
            return tuple(legal) or possible[:1]
        return tuple(word for word in self._choices(knob) if word in possible) or possible[:1]

    def _possible_forms(self, knob: str, model: Unpruned) -> tuple[str, ...]:
        if knob == BATCH:
            is_open = precisions.opens_batch(model.runtime, model.provider)
            return ("1", OPEN) if is_open and self.supports(model.backbone, BATCH, OPEN) is None else ("1",)
        return possible_ops(model.backbone, model.runtime, model.provider, model.precision, self.supports)

    def _threads(self, model: Unpruned) -> tuple[int, ...]:
        """The numbers of threads in ascending order that the device has cores for; only the least for what does not
        compute on threads that it is given."""
        offered = self.space.threads
        if len(offered) == 1 or not takes_threads(model.runtime, model.provider):
            return offered[:1]
        deployment = Deployment(self.device, model.runtime, model.provider, model.precision)
        fits = (count for count in offered if self.deployable(replace(deployment, threads=count)) is None)
        return tuple(fits) or offered[:1]

    def _streams(self, model: Unpruned, threads: int) -> tuple[int | None, ...]:
        """The numbers of runs in flight in ascending order that the device has cores for, with so many threads each."""
        offered = self.space.streams
        deployment = Deployment(self.device, model.runtime, model.provider, model.precision, threads=threads)
        fits = (count for count in offered if self.deployable(replace(deployment, streams=count)) is None)
        return tuple(fits) or offered[:1]

    def count_leaders(self, backbone: str | None = None) -> tuple[int, int]:
        """The numbers of files and of measurements of the leaderboard, of one backbone or of all: runs that differ in
        their threads or streams share a file."""
        models = list(self.unpruned_models() if backbone is None else self._unpruned(backbone))
        runs = [run for model in models for run in self.measured_runs(model)]
        return sum(run.keys().isdisjoint({THREADS, STREAMS}) for run in runs), len(runs)

    def count_tried(self, backbone: str | None = None) -> int:
        """The number of files that `auto` measures besides those of the leaderboard: of one backbone, or of all."""
        models = list(self.unpruned_models() if backbone is None else self._unpruned(backbone))
        tried = (len(self.tried_forms(knob, model)) for knob in FORM_KNOBS if self.finds(knob) for model in models)
        return sum(max(0, count - 1) for count in tried)

    def finds(self, knob: str) -> bool:
        """Whether the leaderboard decides about a knob of the form."""
        return AUTO in self._choices(knob)

    def _choices(self, knob: str) -> tuple[Any, ...]:
        return self.space.choices_of(knob)

    def _legal(self, backbone: str, knob: str) -> tuple[Any, ...]:
        return tuple(value for value in self._choices(knob) if self.supports(backbone, knob, value) is None)

    def _precisions(self, backbone: str, runtime: str, provider: str) -> tuple[str, ...]:
        """The precisions that the backbone supports, that can be made for the runtime, and that the device runs."""
        legal = self._legal(backbone, "quantization")
        supported = (precision for precision in legal if precisions.supports_on(runtime, provider, precision) is None)
        return tuple(
            precision
            for precision in supported
            if self.deployable(Deployment(self.device, runtime, provider, precision)) is None
        )

    def _numbers(self, backbone: str, knob: str) -> tuple[float, ...]:
        """The supported numbers in ascending order; only 0 when the backbone supports none."""
        legal = tuple(sorted(float(value) for value in self._legal(backbone, knob)))
        return legal or (0.0,)


def _named_streams(streams: int | None) -> dict[str, str]:
    return {} if streams is None else {STREAMS: str(streams)}


def _batch(word: str | None) -> int | None:
    return None if word == OPEN else int(word or 1)
