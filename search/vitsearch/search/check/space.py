"""Everything that is wrong with a space file, its data and its weights files, found in one pass."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from vitsearch.backbones.catalogue import Catalogue
from vitsearch.backbones.examine import RATIOS
from vitsearch.core.caveats import known_bad
from vitsearch.core.image_size import ImageSize, smallest_enclosing
from vitsearch.core.preprocessing import preprocessing_text
from vitsearch.data import DataSpec
from vitsearch.data.estimate import DataEstimate
from vitsearch.data.layout import Layout
from vitsearch.data.review import Review, review
from vitsearch.devices.connection import connection_problems
from vitsearch.devices.token_destinations import TokenUse, remember_destinations, token_uses
from vitsearch.errors import DataError, ResourceError, StudyError
from vitsearch.search.check import local_device
from vitsearch.search.check.weights import CheckedWeights, check_weights
from vitsearch.search.earlier_studies import learned_from
from vitsearch.search.plan_space import deployments_of, lacking, plan_space, with_quantized_ops
from vitsearch.search.resources import cores_here, resources_of
from vitsearch.search.stage_config import data_spec, stored_data
from vitsearch.search.starting_weights import starts
from vitsearch.search.weighted_classes import unknown_names
from vitsearch.space import JudgedSpace, SearchSpace, judge
from vitsearch.space.networks import NetworkSection
from vitsearch.space.nodes import Path
from vitsearch.space.problems import Problem

ADDRESSES = frozenset({"study", "storage", "files", "devices"})
"""The keys of a file that say where something is."""
ANY_SIZE = ImageSize.square(224)  # without a valid resolution any size serves, because only problems are looked for


@dataclass(frozen=True)
class Valid:
    """A space file without problems: what its search and its data amount to.

    `layout` is `None` where there are too many images to count. `notes` say why a run from this machine would end
    at once. `tokens` are the addresses that a run gives a token.
    """

    file: str
    space: SearchSpace
    plans: int
    data: DataEstimate
    layout: Layout | None
    notes: list[str]
    warnings: tuple[str, ...]
    tried: Mapping[str, str]
    tokens: tuple[TokenUse, ...]

    def _wanted(self) -> str:
        search = self.space.search
        if search.wanted is None:
            return f"as many as {search.budget_s:g} s allow"
        return f"at most {min(search.wanted, self.plans)}"

    def inputs(self) -> dict[str, str]:
        """How each backbone reads images, in the keys of a space file."""
        preprocessings = {start.backbone: start.preprocessing(self.data.channels) for start in starts(self.space)}
        random = "mean and std of the training images, as its weights are random"
        return {name: random if each is None else preprocessing_text(each) for name, each in preprocessings.items()}

    def _own_task(self) -> Iterator[str]:
        """Whose code a task of one's own is."""
        source = self.space.task_source
        if source.is_own_code:
            where = f", looked for in {source.folder} and among the installed packages" if source.folder else ""
            yield f"task {source.kind}: this command and workers run its code with your rights{where}."

    def _about(self, section: NetworkSection) -> Iterator[str]:
        """What was found out about a network of the user's, and the searched knobs that it does not support."""
        yield f"network {section.name}:"
        yield from (f"  {line}" for line in section.lines())
        refusals = section.facts.refusals if section.facts is not None else {}
        for knob in RATIOS:
            if knob in refusals and any(self.space.choices_of(knob)):
                yield f"  without {knob}: {refusals[knob].removeprefix(f'{section.name} ')}"

    def _readers(self) -> dict[str, list[str]]:
        """The backbones that read images in one way, by its words."""
        readers: dict[str, list[str]] = {}
        for name, text in self.inputs().items():
            readers.setdefault(text, []).append(name)
        return readers

    def describe(self) -> str:
        """Some lines for the user, beside those of the data."""
        counted = "1 plan," if self.plans == 1 else f"{self.plans} plans,"
        return "\n".join(
            [
                f"{self.file}: fine. {counted} of which {self._wanted()} will be trained.",
                *(f"input of {', '.join(names)}: {text}." for text, names in self._readers().items()),
                *(f"weights of {name}: {text}." for name, text in self.tried.items()),
                *self._own_task(),
                *(line for section in self.space.network_sections for line in self._about(section)),
                *(f"{token.describe()}." for token in self.tokens),
                *(f"A run from this machine would end at once: {note}" for note in self.notes),
            ]
        )


@dataclass(frozen=True)
class CheckedFile:
    """A space file with what its backbones do not support; `warnings` are of values that do little or go badly
    together."""

    judged: JudgedSpace
    warnings: tuple[str, ...]

    @property
    def connectable(self) -> SearchSpace | None:
        """What is valid of the space, where nothing is wrong with its addresses: else a secret might go elsewhere."""
        draft = self.judged.draft
        wrong = {problem.path[0] for problem in draft.problems if problem.path}
        return None if draft.reading_problems or wrong & ADDRESSES else draft.rest

    @property
    def is_whole(self) -> bool:
        """Whether no value is invalid in itself."""
        return not self.judged.draft.lines()


@dataclass(frozen=True)
class CheckedData:
    """The data of a space file. `review` is `None` when they cannot be used, or the file does not say which."""

    spec: DataSpec | None
    review: Review | None
    problems: tuple[Problem, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        return () if self.review is None else tuple(self.review.warnings)

    def describe(self) -> str:
        """Some lines for the user."""
        if self.review is None:
            return ""
        layout = self.review.layout
        return "\n".join([f"data: {self.review.estimate.describe()}.", *([layout.describe()] if layout else [])])


@dataclass(frozen=True)
class Checked:
    """Everything that was found, in the order in which it was found."""

    file: CheckedFile
    of_data: CheckedData
    of_weights: CheckedWeights

    @property
    def judged(self) -> JudgedSpace:
        return self.file.judged

    @property
    def data(self) -> Review | None:
        return self.of_data.review

    @property
    def warnings(self) -> tuple[str, ...]:
        return (*self.file.warnings, *self.of_data.warnings, *self.of_weights.warnings)

    def require(self, more: Sequence[Problem] = ()) -> Valid:
        """The valid space; otherwise one `SpaceError` with every problem, those of `more`
        among them."""
        draft = self.judged.draft
        problems = (*self.judged.unsupported, *self.of_data.problems, *self.of_weights.problems, *more)
        space = draft.require(problems).space
        assert self.data is not None  # a valid space has data, and its problems were raised
        remember_destinations(space.devices, os.environ)
        tokens = tuple(token_uses(space.devices, os.environ))
        notes = [*connection_problems(space.devices, os.environ), *lacking(space), *local_device.unable(space)]
        notes += [*_too_many_trainers(space), *_unknown_priors(space)]
        estimate, layout = self.data.estimate, self.data.layout
        plans, tried = plan_space(space, local_device.with_cores(space)).count(), self.of_weights.tried
        return Valid(draft.source.path, space, plans, estimate, layout, notes, self.warnings, tried, tokens)


def check_space(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Checked:
    """Check the form of a space file, its names and values, its weights files and its data, each as far as the others
    allow. Raises `SpaceError` only for a file that is no YAML mapping."""
    file = check_file(path, overrides)
    data = check_data(file)
    return Checked(file, data, check_weights_of(file, data))


def check_file(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> CheckedFile:
    """The first step of `check_space`: what needs no data."""
    judged = judge(path, overrides, Catalogue.examined)
    space = judged.draft.space
    of_space = (
        [] if space is None else [*_known_bad(space), *_several_shapes(space), *local_device.without_cores(space)]
    )
    return CheckedFile(judged, (*judged.warnings, *of_space))


def check_data(file: CheckedFile) -> CheckedData:
    """The second step: read the whole data set."""
    draft = file.judged.draft
    if draft.data is None:
        return CheckedData(None, None, ())
    resolutions = draft.searched.resolutions() or [ANY_SIZE]
    stored = (
        data_spec(draft.space) if draft.space is not None else stored_data(draft.data, smallest_enclosing(resolutions))
    )
    try:
        spec = DataSpec.from_json(stored)
        return CheckedData(spec, review(spec), ())
    except DataError as error:
        problem = _problem(str(error))
        reported = {each.path for each in draft.problems}  # such as a missing root
        return CheckedData(None, None, () if problem.path in reported else (problem,))


def check_weights_of(file: CheckedFile, data: CheckedData) -> CheckedWeights:
    """The third step: what needs backbones and the data, such as finished weights. Nothing where either is wrong."""
    space = file.judged.draft.rest
    if data.spec is None or data.review is None or space is None:
        return CheckedWeights([], [], {})
    refused = [problem.path for problem in file.judged.unsupported]
    weights = check_weights(space, data.spec, data.review.estimate.channels, refused)
    layout = data.review.layout
    names = None if layout is None else layout.class_names  # of too many images; a run reads them
    return weights if names is None else replace(weights, problems=[*weights.problems, *unknown_names(space, names)])


def _several_shapes(space: SearchSpace) -> list[str]:
    """What models lose of images that are stored in one shape, while resolutions have several."""
    if space.task.data.image_size is not None or space.task.data.source.startswith("builtin:"):
        return []
    sizes = sorted({*space.space.resolution, space.baseline_resolution})
    if all(size.has_shape_of(sizes[0]) for size in sizes):
        return []
    return [
        f"task.data.image_size: is missing, and the resolutions have several shapes ({', '.join(map(str, sizes))}): "
        "images are stored in the smallest that holds them all, and no model sees what lies outside; write the shape "
        "of your images: [height, width]"
    ]


def _known_bad(space: SearchSpace) -> list[str]:
    """What is known against combinations of a file whose values are valid."""
    names = [choice.name for choice in space.space.backbone]
    deployments = with_quantized_ops(space, deployments_of(space, space.device_name))
    return known_bad.warnings(names, deployments)


def _too_many_trainers(space: SearchSpace) -> list[str]:
    try:
        resources_of(space, cores_here(space))
    except ResourceError as error:
        return [str(error)]
    return []


def _unknown_priors(space: SearchSpace) -> list[str]:
    try:
        learned_from(space)
    except StudyError as error:
        return [str(error)]
    return []


def _problem(text: str) -> Problem:
    """A problem of the data at its key in the file."""
    path: Path = ("task", "data")
    key, _, message = text.partition(": ")
    if key.startswith("data."):
        path, text = ("task", *key.split(".")), message
    return Problem(path, text.replace("\n", "\n  "))
