"""The parts of a space file that are valid in themselves, so that a mistake in one hides no problem of another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar, cast

from pydantic import BaseModel, TypeAdapter, ValidationError

from vitsearch.core.image_size import ImageSize
from vitsearch.core.networks import Network
from vitsearch.errors import VitsearchError
from vitsearch.space.globs import is_glob
from vitsearch.space.knobs import AnyBackbone, Baseline, Knobs
from vitsearch.space.model import SearchSpace
from vitsearch.space.networks import NetworkSection
from vitsearch.space.nodes import Path
from vitsearch.space.task import Data, TeacherSection
from vitsearch.tasks import CLASSIFICATION, Task, TaskSource

M = TypeVar("M", bound=BaseModel)
Names = tuple[str, ...]

READS: dict[str, Names] = {
    "objectives": ("objectives",),
    "limits": ("limits",),
    "data": ("task", "data"),
    "teacher": ("task", "teacher"),
    "base": ("task", "base"),
    "fine_tune": ("task", "fine_tune"),
    "backbones": ("space", "backbone"),
    "baseline": ("baseline",),
    "distillation": ("space", "distillation"),
    "resolutions": ("space", "resolution"),
    "measure": ("measure",),
    "threads": ("space", "threads"),
    "streams": ("space", "streams"),
    "fleet": ("fleet",),
}
"""A part that rules read -> its key path."""


def valid_parts(raw: dict[str, Any]) -> dict[str, Any]:
    """Each part of `READS` that is valid, or its default; of objectives, limits and data, what is valid in each.

    `objective_names`, `device_names` and `fleet_names` are all names, valid or not; `written` are the keys of
    the file. A list of devices is one device with several boards.
    """
    parts = {name: _part(raw, path) for name, path in READS.items()}
    parts["data"] = valid_data(raw)
    parts["task_source"] = _task_source(raw)
    parts["task"] = _task(parts["task_source"])
    parts["objective_names"] = _names(raw, "objectives")
    mapped = _names(raw, "devices") or ()
    parts["device_names"] = mapped or _listed(raw, "devices")
    parts["fleet_names"] = mapped if len(mapped) > 1 else ()
    parts["written"] = tuple(name for name, value in raw.items() if value is not None)
    return {name: part for name, part in parts.items() if part is not None}


@dataclass(frozen=True)
class SearchedValues:
    """What a space file asks of backbones and runtimes: the valid values of each knob, each with its key path.

    `backbones` and `baseline` are as written: the baseline has its defaults where the file leaves a key out. A glob is
    no backbone.
    """

    backbones: tuple[tuple[Path, AnyBackbone], ...]
    values: Mapping[str, tuple[tuple[Path, Any], ...]]
    baseline: Baseline
    teacher: TeacherSection | None

    @classmethod
    def of(cls, raw: dict[str, Any]) -> SearchedValues:
        values = {knob: tuple(_values(raw, knob)) for knob in Knobs.model_fields}
        baseline = _without_invalid_keys(Baseline, raw.get("baseline"))
        teacher = _part(raw, READS["teacher"])
        return cls(
            backbones=tuple(each for each in values.pop("backbone") if not is_glob(each[1].name)),
            values=values,
            baseline=baseline or Baseline(),
            teacher=teacher if isinstance(teacher, TeacherSection) else None,
        )

    def choices(self, knob: str) -> tuple[Any, ...]:
        return tuple(value for _, value in self.values[knob])

    def networks(self) -> list[tuple[Network, str]]:
        """The networks that the user brings, each with its weights."""
        sections = (choice for _, choice in self.backbones if isinstance(choice, NetworkSection))
        return [(section.network, section.weights) for section in sections]

    def resolutions(self) -> list[ImageSize]:
        """Sizes of images: those of the space, and that of the baseline where it is another."""
        own = self.baseline.resolution
        return [*self.choices("resolution"), *([] if own is None else [own])]


def valid_data(raw: dict[str, Any]) -> Data | None:
    """The section `task.data` without its invalid keys; `None` when the source or the root is invalid."""
    task = raw.get("task")
    raw_data = task.get("data") if isinstance(task, dict) else None
    data = _without_invalid_keys(Data, raw_data)
    if data is None or (isinstance(raw_data, dict) and raw_data.get("root") is not None and data.root is None):
        return None
    return data


def _task_source(raw: dict[str, Any]) -> TaskSource | None:
    """Where the task is; None where the file does not say that in words."""
    section = raw.get("task")
    written = section if isinstance(section, dict) else {}
    kind, folder = written.get("kind", CLASSIFICATION.kind), written.get("folder") or ""
    return TaskSource(kind, folder) if isinstance(kind, str) and isinstance(folder, str) else None


def _task(source: TaskSource | None) -> Task | None:
    """What the models are for; None where there is no such task."""
    try:
        return None if source is None else source.find()
    except VitsearchError:
        return None


def _values(raw: dict[str, Any], knob: str) -> list[tuple[Path, Any]]:
    """The valid values of a knob. The items of a list are judged one by one."""
    path, section = ("space", knob), raw.get("space")
    raw_values = section.get(knob) if isinstance(section, dict) else None
    if not isinstance(raw_values, list):
        part = _part(raw, path)
        items = part if isinstance(part, tuple) else () if part is None else (part,)
        return [((*path, index), value) for index, value in enumerate(items)]
    judged = [(index, _valid(path, [item])) for index, item in enumerate(raw_values)]
    return [((*path, index), valid[0]) for index, valid in judged if valid]


def _names(raw: dict[str, Any], section: str) -> Names | None:
    value = raw.get(section)
    return tuple(value) if isinstance(value, dict) else None


def _listed(raw: dict[str, Any], section: str) -> Names:
    value = raw.get(section)
    return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list) else ()


def _part(raw: Any, path: Names) -> Any:
    for key in path[:-1]:
        raw = raw.get(key) if isinstance(raw, dict) else None
    value = raw.get(path[-1]) if isinstance(raw, dict) else None
    if value is None:
        field = _field(path)
        return None if field.is_required() else field.get_default()
    if path in (("objectives",), ("limits",)) and isinstance(value, dict):
        return _valid_entries(value, _adapter(path))
    return _valid(path, value)


def _valid(path: Names, value: Any) -> Any:
    try:
        return _adapter(path).validate_python(value)
    except ValidationError:
        return None


def _field(path: Names) -> Any:
    section: type[BaseModel] = SearchSpace
    for key in path[:-1]:
        section = cast(type[BaseModel], section.model_fields[key].annotation)
    return section.model_fields[path[-1]]


@cache
def _adapter(path: Names) -> TypeAdapter[Any]:
    field = _field(path)
    kind: Any = field.annotation
    for metadata in field.metadata:
        kind = Annotated[kind, metadata]
    return TypeAdapter[Any](kind)


def _valid_entries(entries: dict[str, Any], adapter: TypeAdapter[Any]) -> dict[str, Any]:
    try:
        return cast(dict[str, Any], adapter.validate_python(entries))
    except ValidationError as error:
        wrong = {detail["loc"][:2] for detail in error.errors()}
    kept = {}
    for name, value in entries.items():
        part = _without(value, {at[1] for at in wrong if at[0] == name and len(at) > 1})
        if (name,) not in wrong and (part or part == value):
            kept[name] = part
    return cast(dict[str, Any], adapter.validate_python(kept))


def _without_invalid_keys(section: type[M], value: Any) -> M | None:
    """A flat section without the keys that are invalid; `None` when nothing valid is left of it."""
    try:
        return section.model_validate(value)
    except ValidationError as error:
        wrong = {detail["loc"][0] for detail in error.errors() if detail["loc"]}
    try:
        return section.model_validate(_without(value, wrong))
    except ValidationError:
        return None


def _without(value: Any, keys: set[Any]) -> Any:
    return {key: part for key, part in value.items() if key not in keys} if isinstance(value, dict) else value
