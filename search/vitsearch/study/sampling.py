"""From the space file to plans: which knobs a backbone has, and how Optuna's parameters become a plan.

One parameter name has one meaning for ever. A knob whose legal values depend on another choice
carries it in its name (``resolution@deit_tiny_patch16_224``, ``quantization@onnxruntime``). Numbers
are floats that are rounded to the nearest choice, so a study can gain or lose choices; words are
categorical, their order is stored in the study and only grows (``Study.word_choices``).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vitsearch.core import precisions
from vitsearch.core.plan import Compression, Deployment, Plan

if TYPE_CHECKING:
    import optuna

    from vitsearch.space import SearchSpace

Supports = Callable[[str, str, Any], str | None]
"""(backbone, knob, value) -> None when supported, otherwise the reason."""
Native = Callable[[str], int]
"""backbone -> the resolution in pixels that its weights were trained at."""
OwnWindow = Callable[[str, int], int | None]
"""(backbone, resolution) -> the window that it has there when none is asked for, if all its windows are alike."""

STARTUP_TRIALS = 20
EVOLUTION_POPULATION = 20


class Suggest(Protocol):
    """The two questions a plan asks; answered by Optuna, by a table, or by chance."""

    def word(self, name: str, choices: tuple[str, ...]) -> str: ...
    def number(self, name: str, choices: tuple[float, ...]) -> float: ...


@dataclass(frozen=True)
class PlanSpace:
    """Everything that can be asked for, with what is not supported already taken out."""

    space: SearchSpace
    device: str
    supports: Supports
    native_resolution: Native
    own_window: OwnWindow = lambda backbone, resolution: None

    def plan(self, suggest: Suggest) -> Plan:
        """Ask one question after the other; the only place where the order of knobs stands."""
        backbone = suggest.word("backbone", self.backbones())
        resolution = int(suggest.number(f"resolution@{backbone}", self._numbers(backbone, "resolution")))
        window = self._window(suggest, backbone, resolution)
        depth = suggest.number("depth_pruning_ratio", self._numbers(backbone, "depth_pruning_ratio"))
        embed = suggest.number("embed_pruning_ratio", self._numbers(backbone, "embed_pruning_ratio"))
        heads = suggest.number("head_pruning_ratio", self._numbers(backbone, "head_pruning_ratio"))
        ffn = suggest.number("ffn_pruning_ratio", self._numbers(backbone, "ffn_pruning_ratio"))
        scope = suggest.word("pruning_scope", self._choices("pruning_scope")) if heads or ffn else "uniform"
        sparsity = self._word(suggest, backbone, "weight_sparsity", self._sparsities(backbone))
        tokens = suggest.number("token_pruning_ratio", self._token_ratios(backbone))
        method, places = self._token_pruning(suggest, backbone) if tokens else (None, ())
        distillation = self._word(suggest, backbone, "distillation", self._legal(backbone, "distillation"))
        runtime = suggest.word("backend", self._choices("backend"))
        precision = self._word(suggest, backbone, f"quantization@{runtime}", self._precisions(backbone, runtime))
        return Plan(
            backbone=backbone,
            weights=self.space.weights_of(backbone),
            resolution=resolution,
            window_size=window,
            compression=Compression(
                head_pruning_ratio=heads,
                ffn_pruning_ratio=ffn,
                token_pruning_ratio=tokens,
                token_pruning_method=method,
                token_pruning_at=places,
                depth_pruning_ratio=depth,
                embed_pruning_ratio=embed,
                weight_sparsity=sparsity,
                scope=scope,  # type: ignore[arg-type]  # checked when the file was read
                width_multiple=self.space.space.width_multiple,
            ),
            distillation=distillation,  # type: ignore[arg-type]  # checked when the file was read
            recipe=self.space.recipe(),
            deployments=(self._deployment(runtime, precision),),
        )

    def _window(self, suggest: Suggest, backbone: str, resolution: int) -> int | None:
        """``None`` where the backbone has no windows, none of the file's fits, or the one chosen is its own."""
        offered = self._windows(backbone, resolution)
        if not offered:
            return None
        chosen = int(suggest.number(f"window_size@{backbone}@{resolution}", offered))
        return None if chosen == self.own_window(backbone, resolution) else chosen

    def _windows(self, backbone: str, resolution: float) -> tuple[float, ...]:
        """Those of the file that divide the maps, rising."""
        knob = f"window_size@{resolution:g}"
        fitting = (size for size in self._choices("window_size") if self.supports(backbone, knob, size) is None)
        return tuple(sorted(map(float, fitting)))

    def _word(self, suggest: Suggest, backbone: str, name: str, legal: tuple[str, ...]) -> str:
        """The name carries the backbone where it can take less than the file offers."""
        offered = self._choices(name.partition("@")[0])
        return suggest.word(name if legal == offered else f"{name}@{backbone}", legal)

    def _token_pruning(self, suggest: Suggest, backbone: str) -> tuple[str, tuple[int, ...]]:
        method = suggest.word(f"token_pruning_method@{backbone}", self._legal(backbone, "token_pruning_method"))
        written = suggest.word(f"token_pruning_at@{backbone}", self._places(backbone))
        return method, tuple(map(int, written.split(",") if written else ()))

    def _token_ratios(self, backbone: str) -> tuple[float, ...]:
        """A backbone that can take none of the methods keeps all tokens."""
        methods = self._legal(backbone, "token_pruning_method")
        return self._numbers(backbone, "token_pruning_ratio") if methods else (0.0,)

    def _sparsities(self, backbone: str) -> tuple[str, ...]:
        """A backbone that takes none keeps its weights."""
        return self._legal(backbone, "weight_sparsity") or ("none",)

    def _places(self, backbone: str) -> tuple[str, ...]:
        """Lists of blocks as one word each; the empty word is the method's own places."""
        return tuple(",".join(map(str, blocks)) for blocks in self._legal(backbone, "token_pruning_at")) or ("",)

    def parameters(self, plan: Plan) -> dict[str, str | float]:
        """The answers that lead to ``plan``: what is enqueued to have exactly this one tried."""
        told = self._told(plan)
        self.plan(told)
        return told.answers

    def _told(self, plan: Plan) -> _Told:
        window = plan.window_size or self.own_window(plan.backbone, plan.resolution)
        return _Told(plan, window)

    def contains(self, plan: Plan) -> bool:
        """Whether today's file can still lead to ``plan`` (a resumed study may have dropped a choice)."""
        if plan.backbone not in self.backbones():
            return False
        told = self._told(plan)
        try:
            return self.plan(told) == plan and not told.off_space
        except ValueError:
            return False

    def leaderboard(self) -> Iterator[Plan]:
        """Every backbone, unpruned, at its base's resolution, in every precision and runtime."""
        for backbone in self.backbones():
            for runtime in self._choices("backend"):
                for precision in self._precisions(backbone, runtime):
                    yield self.unpruned(backbone, runtime, precision)

    def baseline(self) -> Plan:
        """The fp32 plan that relative limits refer to; its backbone need not be one of the space's."""
        base = self.space.baseline
        return Plan(
            backbone=base.backbone,
            weights=base.weights,
            resolution=base.resolution,
            window_size=None,
            compression=Compression(width_multiple=self.space.space.width_multiple),
            distillation=self._choices("distillation")[0],  # untrained: as on the leaderboard, so made once
            recipe=self.space.recipe(),
            deployments=(self._deployment(self._choices("backend")[0], "fp32"),),
        )

    def unpruned(self, backbone: str, runtime: str, precision: str) -> Plan:
        words = {"backbone": backbone, "backend": runtime, "quantization": precision}
        plan = self.plan(_First(words, self.base_resolution(backbone)))
        return plan.unpruned()

    def base_resolution(self, backbone: str) -> int:
        """Where the unpruned model is trained, if it must be, and judged: the native one where the space
        has it, else the largest that the space has for it; native for a model of which it has none."""
        native = self.native_resolution(backbone)
        if backbone == self.space.baseline.backbone and backbone not in self.backbones():
            return self.space.baseline.resolution
        if backbone not in self.backbones():
            return native
        offered = self._numbers(backbone, "resolution")
        return native if native in offered else int(offered[-1]) or native

    def random(self, rng: random.Random) -> Plan:
        return self.plan(_Chance(rng))

    def count(self) -> int:
        """How many different answers there are (plans with one effect counted apart)."""
        total = 0
        for backbone in self.backbones():
            knobs = ("depth_pruning_ratio", "embed_pruning_ratio")
            seen = sum(len(self._windows(backbone, size)) or 1 for size in self._numbers(backbone, "resolution"))
            total_of = [seen, *(len(self._numbers(backbone, knob)) for knob in knobs)]
            cut = [self._numbers(backbone, knob) for knob in ("head_pruning_ratio", "ffn_pruning_ratio")]
            deployments = sum(len(self._precisions(backbone, runtime)) for runtime in self._choices("backend"))
            scopes = len(self._choices("pruning_scope"))
            shapes = sum(scopes if heads or ffn else 1 for heads, ffn in itertools.product(*cut))
            words = [len(self._legal(backbone, knob) or ("none",)) for knob in ("weight_sparsity", "distillation")]
            total += math.prod([*total_of, shapes, *words, self._count_token_prunings(backbone), deployments])
        return total

    def _count_token_prunings(self, backbone: str) -> int:
        methods = len(self._legal(backbone, "token_pruning_method")) * len(self._places(backbone))
        return sum(methods if ratio else 1 for ratio in self._token_ratios(backbone))

    def backbones(self) -> tuple[str, ...]:
        return tuple(choice.name for choice in self.space.space.backbone)

    def _deployment(self, runtime: str, precision: str) -> Deployment:
        return Deployment(device=self.device, runtime=runtime, provider="CPUExecutionProvider", precision=precision)

    def _choices(self, knob: str) -> tuple[Any, ...]:
        return self.space.choices()[knob]

    def _legal(self, backbone: str, knob: str) -> tuple[Any, ...]:
        return tuple(value for value in self._choices(knob) if self.supports(backbone, knob, value) is None)

    def _precisions(self, backbone: str, runtime: str) -> tuple[Any, ...]:
        """What the backbone can take and we can make for the runtime."""
        legal = self._legal(backbone, "quantization")
        return tuple(precision for precision in legal if precisions.supports(runtime, precision) is None)

    def _numbers(self, backbone: str, knob: str) -> tuple[float, ...]:
        """Rising; a backbone that cannot be cut this way keeps the one value 0."""
        legal = tuple(sorted(float(value) for value in self._legal(backbone, knob)))
        return legal or (0.0,)


class OptunaSuggest:
    """Answers from an Optuna trial. A knob with one choice is no parameter.

    ``word_choices`` is the study's stored order; a word that today's file no longer has is kept in
    it and, when drawn, noted in ``off_space``.
    """

    def __init__(self, trial: optuna.Trial, word_choices: Callable[[str, tuple[str, ...]], tuple[str, ...]]) -> None:
        self._trial = trial
        self._word_choices = word_choices
        self.off_space: list[str] = []

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        known = self._word_choices(name, choices)
        if len(known) == 1:
            return known[0]
        drawn = str(self._trial.suggest_categorical(name, known))
        if drawn in choices:
            return drawn
        self.off_space.append(f"{name}={drawn}")
        return choices[0]

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        if len(choices) == 1:
            return choices[0]
        drawn = self._trial.suggest_float(name, choices[0], choices[-1])
        return nearest(drawn, choices)


def nearest(value: float, choices: tuple[float, ...]) -> float:
    return min(choices, key=lambda choice: (abs(choice - value), choice))


class _Told:
    """Answers read off a plan; remembers them as Optuna parameters."""

    def __init__(self, plan: Plan, window: int | None) -> None:
        self.answers: dict[str, str | float] = {}
        self.off_space = False
        cut, deployment = plan.compression, plan.deployment
        self._known: dict[str, Any] = {
            "backbone": plan.backbone,
            "resolution": float(plan.resolution),
            "window_size": float(window or 0),
            "head_pruning_ratio": cut.head_pruning_ratio,
            "ffn_pruning_ratio": cut.ffn_pruning_ratio,
            "token_pruning_ratio": cut.token_pruning_ratio,
            "token_pruning_method": cut.token_pruning_method,
            "token_pruning_at": ",".join(map(str, cut.token_pruning_at)),
            "depth_pruning_ratio": cut.depth_pruning_ratio,
            "embed_pruning_ratio": cut.embed_pruning_ratio,
            "weight_sparsity": cut.weight_sparsity,
            "pruning_scope": cut.scope,
            "distillation": plan.distillation,
            "backend": deployment.runtime,
            "quantization": deployment.precision,
        }

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        return str(self._answer(name, choices))

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        return float(self._answer(name, choices))

    def _answer(self, name: str, choices: tuple[Any, ...]) -> Any:
        value = self._known[name.partition("@")[0]]
        self.off_space |= value not in choices
        if len(choices) > 1:
            self.answers[name] = value
        return value


@dataclass(frozen=True)
class _First:
    """The fixed words (by knob) and resolution, otherwise the first word; nothing is cut."""

    words: Mapping[str, str]
    resolution: int

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        return self.words.get(name.partition("@")[0], choices[0])

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        return float(self.resolution) if name.startswith("resolution") else choices[0]


@dataclass(frozen=True)
class _Chance:
    rng: random.Random

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        return self.rng.choice(choices)

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        return self.rng.choice(choices)


def make_sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    """``auto`` is TPE with 20 start-up trials and without ``multivariate``, which hurt on conditional spaces."""
    import optuna

    if name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    if name == "nsga2":
        return optuna.samplers.NSGAIISampler(population_size=EVOLUTION_POPULATION, seed=seed)
    return optuna.samplers.TPESampler(n_startup_trials=STARTUP_TRIALS, multivariate=False, seed=seed)
