"""The knobs of a space file for samplers that know nothing of plans: their names, values, and when each is asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from random import choice
from typing import Any, TypeVar

from vitsearch.core.plan import Plan
from vitsearch.errors import PlanError, did_you_mean
from vitsearch.search.plan_space import plan_space
from vitsearch.space import SearchSpace
from vitsearch.study.sampling import FormLookup, PlanSpace
from vitsearch.study.suggest import OptunaSuggest, nearest

V = TypeVar("V", str, float)
Choices = tuple[Any, ...]


class ConfigSpace:
    """The knobs by their names in the study, such as `resolution@deit_tiny_patch16_224`.

    They do not depend on the device, so samplers can draw before it is known. Pickled as the space file alone; Ray
    copies what draws for each trial, which need not copy this.
    """

    def __init__(self, space: SearchSpace) -> None:
        self.space = space

    def __reduce__(self) -> tuple[type[ConfigSpace], tuple[SearchSpace]]:
        return type(self), (self.space,)

    def __deepcopy__(self, _: dict[int, Any]) -> ConfigSpace:
        return self

    @cached_property
    def _plans(self) -> PlanSpace:
        return plan_space(self.space)

    @cached_property
    def choices(self) -> dict[str, Choices]:
        """Every knob that some plan has, with all values that it has in some plan; those that others depend on first.

        Whether a knob is asked depends on the backbone and on one answer before: each answer of each backbone is tried
        once, with the last value of all other knobs.
        """
        choices: dict[str, Choices] = {}
        for backbone in self._plans.backbones():
            tried: set[str] = set()
            open_answers: list[dict[str, Any]] = [{"backbone": backbone}]
            while open_answers:
                questions = _Questions(open_answers.pop(0))
                self._plans.plan(questions)
                for name, offered in questions.choices.items():
                    values = choices.get(name, ())
                    choices[name] = (*values, *(value for value in offered if value not in values))
                    if name != "backbone" and name not in tried:
                        tried.add(name)
                        open_answers += [questions.answers_before(name) | {name: value} for value in offered]
        return choices

    def plan(self, config: Mapping[str, Any], form_of: FormLookup | None = None) -> Plan:
        """The plan of a config. A number becomes the nearest value of the space.

        Raises `PlanError` for a knob that is missing, and for a value that the space does not have there.
        """
        plans = self._plans if form_of is None else replace(self._plans, form_of=form_of)
        return plans.plan(_Configured(config))

    def draw(self, name: str, config: Mapping[str, Any]) -> Any:
        """A random value of a knob beside those of `config`; None where the plan does not have the knob, or where
        `config` is not valid. Ray raises an error of its own if `config` has yet to be drawn itself."""
        config = getattr(config, "config", config)  # Ray gives the config, or what has it
        try:
            self._plans.plan(_Configured(config, name))
        except _Reached as reached:
            return choice(reached.choices)
        except PlanError:  # the trial itself says so
            pass
        return None

    def suggest(self, trial: Any) -> None:
        """Ask an Optuna trial. Words have one list of choices for all backbones, as Optuna wants it; a plan with one
        that its backbone does not support is refused when it is tried."""
        self._plans.plan(OptunaSuggest(trial, lambda name, offered: self.choices.get(name, offered)))


class _KnobAnswers:
    """Answers with a value for each knob that is a question."""

    def word(self, name: str, choices: tuple[str, ...]) -> str:
        return self._answer(name, choices)

    def number(self, name: str, choices: tuple[float, ...]) -> float:
        return self._answer(name, choices)

    def _answer(self, name: str, choices: tuple[V, ...]) -> V:
        return choices[0] if len(choices) == 1 else self._chosen(name, choices)

    def _chosen(self, name: str, choices: tuple[V, ...]) -> V:
        raise NotImplementedError


class _Questions(_KnobAnswers):
    """Keeps what is asked: answered as in `fixed`, otherwise with the last choice."""

    def __init__(self, fixed: Mapping[str, Any]) -> None:
        self._fixed = fixed
        self._answers: dict[str, Any] = {}
        self.choices: dict[str, Choices] = {}

    def _chosen(self, name: str, choices: tuple[V, ...]) -> V:
        self.choices[name] = choices
        answer: V = self._fixed.get(name, choices[-1])
        self._answers[name] = answer
        return answer

    def answers_before(self, name: str) -> dict[str, Any]:
        names = list(self._answers)
        return {earlier: self._answers[earlier] for earlier in names[: names.index(name)]}


class _Reached(Exception):
    def __init__(self, choices: Choices) -> None:
        self.choices = choices


class _Configured(_KnobAnswers):
    """Answers from `config`, up to the question `wanted`, whose choices it raises as `_Reached`."""

    def __init__(self, config: Mapping[str, Any], wanted: str = "") -> None:
        self._config = config
        self._wanted = wanted

    def _chosen(self, name: str, choices: tuple[V, ...]) -> V:
        if name == self._wanted:
            raise _Reached(choices)
        if name not in self._config:
            raise PlanError(f"the config has no {name!r}{did_you_mean(name, self._config)}")
        # By attribute, if the config has attributes: there Ray refuses values that are not drawn yet.
        value = getattr(self._config, name) if hasattr(self._config, "__dict__") else self._config[name]
        if isinstance(choices[0], str):
            if value in choices:
                return value  # type: ignore[no-any-return]  # one of them
        elif isinstance(value, int | float) and choices[0] <= value <= choices[-1]:
            return nearest(value, choices)
        raise PlanError(f"{name} {value!r} is not in the space here; allowed: {', '.join(map(str, choices))}")
