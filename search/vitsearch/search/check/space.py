"""Everything that is wrong with a space file, its data and its weights files, found in one pass."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitsearch import backbones
from vitsearch.core.caveats import known_bad
from vitsearch.core.preprocessing import preprocessing_text
from vitsearch.data import DataSpec
from vitsearch.data.estimate import Estimate
from vitsearch.data.layout import Layout
from vitsearch.data.review import Review, review
from vitsearch.devices.connection import connection_problems
from vitsearch.devices.token_places import TokenUse, remember_places, token_uses
from vitsearch.errors import DataError, ResourceError
from vitsearch.search.check.weights import check_weights
from vitsearch.search.plans import deployments_of, lacking, plan_space, with_quantized_ops
from vitsearch.search.resources import cores_here, resources_of
from vitsearch.search.stage_config import data_spec, stored_data
from vitsearch.search.starting_weights import starts
from vitsearch.search.weighted_classes import unknown_names
from vitsearch.space import Judged, SearchSpace, judge
from vitsearch.space.nodes import Path
from vitsearch.space.source import Problem

ANY_SIZE = 224  # pixels; without a valid resolution any size serves, because only problems are looked for


@dataclass(frozen=True)
class Valid:
    """A space file without problems: what its search and its data amount to.

    ``layout`` is ``None`` where there are too many images to count. ``notes`` say why a run from this machine would end
    at once. ``tokens`` are the addresses that a run gives a token.
    """

    file: str
    space: SearchSpace
    plans: int
    data: Estimate
    layout: Layout | None
    notes: list[str]
    warnings: tuple[str, ...]
    tried: Mapping[str, str]
    tokens: tuple[TokenUse, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "study": self.space.study,
            "plans": self.plans,
            "trials": self.space.search.wanted,
            "notes": self.notes,
            "warnings": list(self.warnings),
            "data": self.data.to_json() | (self.layout.to_json() if self.layout else {"classes": None, "splits": None}),
            "inputs": self.inputs(),
            "weights": dict(self.tried),
            "tokens": [one.to_json() for one in self.tokens],
            "space": self.space.to_json(),
        }

    def _wanted(self) -> str:
        search = self.space.search
        if search.wanted is None:
            return f"as many as {search.budget_s:g} s allow"
        return f"at most {min(search.wanted, self.plans)}"

    def inputs(self) -> dict[str, str]:
        """How each backbone reads images, in the keys of a space file."""
        found = {start.backbone: start.preprocessing(self.data.channels) for start in starts(self.space)}
        random = "mean and std of the training images, as its weights are random"
        return {name: random if each is None else preprocessing_text(each) for name, each in found.items()}

    def describe(self) -> str:
        """Some lines for the user."""
        counted = "1 plan," if self.plans == 1 else f"{self.plans} plans,"
        return "\n".join(
            [
                f"{self.file}: fine. {counted} of which {self._wanted()} will be trained.",
                f"data: {self.data.describe()}.",
                *([self.layout.describe()] if self.layout else []),
                *(f"input of {name}: {text}." for name, text in self.inputs().items()),
                *(f"weights of {name}: {text}." for name, text in self.tried.items()),
                *(f"{one.describe()}." for one in self.tokens),
                *(f"A run from this machine would end at once: {note}" for note in self.notes),
            ]
        )


@dataclass(frozen=True)
class Checked:
    """What was found. ``data`` is ``None`` when the data cannot be used; ``more_problems`` are those of the data, or
    of the weights with the data; ``warnings`` include those of both."""

    judged: Judged
    data: Review | None
    more_problems: list[Problem]
    warnings: tuple[str, ...]
    tried: Mapping[str, str] = field(default_factory=dict)

    def require(self, more: Sequence[Problem] = ()) -> Valid:
        """The valid space; otherwise one :class:`~vitsearch.errors.SpaceError` with every problem, those of ``more``
        among them."""
        draft = self.judged.draft
        space = draft.require([*self.judged.unsupported, *self.more_problems, *more]).space
        assert self.data is not None  # a valid space has data, and its problems were raised
        remember_places(space.devices, os.environ)
        tokens = tuple(token_uses(space.devices, os.environ))
        notes = [*connection_problems(space.devices, os.environ), *lacking(space), *_too_many_trainers(space)]
        estimate, layout = self.data.estimate, self.data.layout
        plans = plan_space(space).count()
        return Valid(draft.source.path, space, plans, estimate, layout, notes, self.warnings, self.tried, tokens)


def check_space(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Checked:
    """Check the form of a space file, its names and values, its weights files and its data, each as far as the others
    allow. Raises :class:`~vitsearch.errors.SpaceError` only for a file that is no YAML mapping."""
    judged = judge(path, overrides, backbones.supports)
    draft, known = judged.draft, [*judged.warnings, *_known_bad(judged.draft.space)]
    if draft.data is None:
        return Checked(judged, None, [], tuple(known))
    asked = (*draft.asked.choices("resolution"), draft.asked.baseline.resolution)
    stored = data_spec(draft.space) if draft.space is not None else stored_data(draft.data, max(asked) or ANY_SIZE)
    try:
        spec = DataSpec.from_json(stored)
        data = review(spec)
    except DataError as error:
        problem = _problem(str(error))
        reported = {each.path for each in draft.problems}  # such as a missing root
        return Checked(judged, None, [] if problem.path in reported else [problem], tuple(known))
    warnings = (*known, *data.warnings)
    if draft.space is None or judged.unsupported:
        return Checked(judged, data, [], warnings)
    weights = check_weights(draft.space, spec, data.estimate.channels)
    names = data.layout.class_names if data.layout is not None else None  # of too many images; a run reads them
    problems = [*weights.problems, *([] if names is None else unknown_names(draft.space, names))]
    return Checked(judged, data, problems, (*warnings, *weights.warnings), weights.tried)


def _known_bad(space: SearchSpace | None) -> list[str]:
    """What is known against combinations of a file whose values are valid."""
    if space is None:
        return []
    names = [choice.name for choice in space.space.backbone]
    deployments = with_quantized_ops(space, deployments_of(space, space.device_name))
    return known_bad.warnings(names, deployments)


def _too_many_trainers(space: SearchSpace) -> list[str]:
    try:
        resources_of(space, cores_here(space))
    except ResourceError as error:
        return [str(error)]
    return []


def _problem(text: str) -> Problem:
    """A problem of the data at its key in the file."""
    path: Path = ("task", "data")
    key, _, message = text.partition(": ")
    if key.startswith("data."):
        path, text = ("task", *key.split(".")), message
    return Problem(path, text.replace("\n", "\n  "))
