"""SearchSpace: a space file as one frozen value with all defaults filled in."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, ValidationError, ValidationInfo, field_validator

from vitsearch.core import study_name
from vitsearch.core.fleet import FLEET
from vitsearch.core.image_size import ImageSize
from vitsearch.core.metrics import is_quality
from vitsearch.core.networks import NetworkFacts, Networks
from vitsearch.core.plan import Recipe
from vitsearch.core.run_sizes import RunSizes
from vitsearch.errors import StudyError
from vitsearch.space.knobs import Baseline, Knobs
from vitsearch.space.networks import NetworkSection, OnnxSection
from vitsearch.space.section_base import Section, StartingWeights
from vitsearch.space.sections import (
    Devices,
    DeviceSection,
    FleetRule,
    FleetWeights,
    LimitSection,
    Measure,
    ResourcesSection,
    Search,
    Ship,
)
from vitsearch.space.task import TaskSection, TeacherSection
from vitsearch.space.value_types import TAGS, Direction, Text, files_place, storage_url
from vitsearch.storage.addresses import masked
from vitsearch.tasks import Task, TaskSource
from vitsearch.tasks.recorded import RecordedTask, TaskFacts
from vitsearch_agent.base.printable import printable

LOCAL_DEVICE = "local"


class SearchSpace(Section):
    """What to search, for which objectives, under which limits, on which device."""

    study: Annotated[Text, Field(pattern=study_name.PATTERN, examples=["jetson_nano"])]
    """Name of the study (default: the file's name)."""
    task: TaskSection
    objectives: dict[str, Direction]
    """Two or more metrics to trade off, each with its direction."""
    limits: dict[str, LimitSection] = {}
    """Bounds that a model must satisfy, by metric."""
    space: Knobs
    baseline: Annotated[Baseline, Field(validate_default=True)] = Baseline()
    devices: Devices = {}
    """Devices by name: each with its keys, an address, or a list of boards of one class (default: the machine that runs
    the search also measures). Several are a fleet: every model is measured on each of them. A list instead of names is
    one device: boards of one class that 'vitsearch devices' knows."""
    fleet: FleetRule = "worst"
    """How a metric of several devices is made of theirs: worst, or the mean with weights for the devices. The metric of
    one of them is METRIC@DEVICE, such as latency_ms_p50@nano."""
    measure: Measure = Measure()
    search: Search = Search()
    resources: ResourcesSection = ResourcesSection()
    ship: Ship = Ship()
    storage: Annotated[Text, Field(validate_default=True)] = ""
    """Database of the study (default: sqlite:///studies/NAME.db)."""
    files: Annotated[Text, AfterValidator(files_place)] | None = None
    """Where the files of the database's studies go: a folder, s3://BUCKET/..., gs://BUCKET/..., sftp://HOST/... The
    database remembers it (default: what VITSEARCH_FILES names, else a folder beside the database)."""

    @field_validator("baseline")
    @classmethod
    def _filled_baseline(cls, value: Baseline, info: ValidationInfo) -> Baseline:
        return value.filled(info.data["space"]) if "space" in info.data else value

    @field_validator("storage", mode="before")
    @classmethod
    def _default_storage(cls, value: Any, info: ValidationInfo) -> Any:
        return value or f"sqlite:///studies/{info.data.get('study', 'study')}.db"

    @field_validator("storage")
    @classmethod
    def _known_storage(cls, value: str) -> str:
        return storage_url(value)

    @property
    def safe_storage(self) -> str:
        """The storage with its password masked. Only this form is printed or stored."""
        return masked(self.storage)

    @property
    def device_name(self) -> str:
        """The device of the study: that of the file, the fleet that several are, or the embedded agent."""
        return FLEET if self.fleet_names else next(iter(self.devices), LOCAL_DEVICE)

    @property
    def device_names(self) -> tuple[str, ...]:
        """The devices of the file, or the name of the embedded agent."""
        return tuple(self.devices) or (LOCAL_DEVICE,)

    @property
    def fleet_names(self) -> tuple[str, ...]:
        """The devices on which each model is measured; none where there is one device."""
        return tuple(self.devices) if len(self.devices) > 1 else ()

    @property
    def fleet_weights(self) -> dict[str, float] | None:
        """The weights of the devices of a fleet; None for the worst case."""
        return dict(self.fleet.weights) if isinstance(self.fleet, FleetWeights) else None

    def on_device(self, name: str, device: DeviceSection | None) -> SearchSpace:
        """Give the space of one device.

        Of a fleet, what is said of a metric of this device holds for the metric itself, and what is said of another
        device is left out.

        Args:
            name: The name of the device.
            device: Its keys; None for this machine.

        Returns:
            The space with this device alone.
        """
        others = {f"@{other}" for other in self.fleet_names if other != name}
        own = [key for key in self.objectives if name not in self.fleet_names or not key.endswith(tuple(others))]
        objectives = {key.partition("@")[0]: self.objectives[key] for key in own}
        common = {key: limit for key, limit in self.limits.items() if "@" not in key}
        here = {key.removesuffix(f"@{name}"): limit for key, limit in self.limits.items() if key.endswith(f"@{name}")}
        devices = {} if device is None else {name: device}
        changes = {"objectives": objectives, "limits": common | here, "devices": devices, "fleet": "worst"}
        return self.model_copy(update=changes)

    @property
    def threads(self) -> tuple[int, ...]:
        """The numbers of threads that are searched, in ascending order: those of the knob, else that of `measure`."""
        return tuple(sorted(self.space.threads)) or (self.measure.threads,)

    @property
    def streams(self) -> tuple[int | None, ...]:
        """The numbers of runs in flight that are searched, in ascending order; None for as many as the cores have room
        for."""
        return tuple(sorted(self.space.streams)) or (None,)

    @property
    def cores(self) -> int:
        """The cores that the largest run needs."""
        return max(self.threads) * max(self.space.streams, default=1)

    @property
    def run_sizes(self) -> RunSizes:
        """The batches, threads and streams of runs, in the order of the file; an open batch is measured with one
        image."""
        batches = tuple(int(word) if word.isdigit() else 1 for word in self.space.batch)
        return RunSizes(batches, self.threads, self.space.streams)

    def start_of(self, backbone: str) -> StartingWeights:
        """Look up the starting weights of a backbone.

        Args:
            backbone: One of the space.

        Returns:
            Its name and the source of its weights.
        """
        return next(choice for choice in self.space.backbone if choice.name == backbone)

    @property
    def network_sections(self) -> tuple[NetworkSection, ...]:
        """The networks that the user brings."""
        return tuple(choice for choice in self.space.backbone if isinstance(choice, NetworkSection))

    @property
    def task_source(self) -> TaskSource:
        return TaskSource(self.task.kind, self.task.folder or "")

    @property
    def purpose(self) -> Task:
        """What the models are for. Of a task of one's own what the study keeps of it: its code is imported only where
        it is needed (`task_source.find`), since the path of a module is what a database says."""
        facts = self.task.facts
        return self.task_source.find() if facts is None else RecordedTask(facts)

    @property
    def reference(self) -> Baseline | TeacherSection | None:
        """The model whose outputs all others are to give; None for a task without one."""
        if not self.purpose.has_reference:
            return None
        return self.task.teacher if isinstance(self.task.teacher, TeacherSection) else self.baseline

    @property
    def qualities(self) -> tuple[str, ...]:
        """The metrics of the task that objectives and limits name; the first one of the task where they name none."""
        names = filter(is_quality, dict.fromkeys([*self.objectives, *self.limits]))
        return tuple(names) or (self.purpose.metrics[0].name,)

    @property
    def labelled_by(self) -> OnnxSection | None:
        """The network whose own fp32 outputs are the labels; None where the images have labels."""
        files = (section for section in self.network_sections if isinstance(section, OnnxSection))
        return next(files, None) if self.task.data.labels == "none" else None

    @property
    def networks(self) -> Networks:
        """The networks that the user brings, as workers get them."""
        return tuple(section.network for section in self.network_sections)

    @property
    def network_facts(self) -> dict[str, NetworkFacts]:
        """What was found out about the networks when the file was loaded, by name."""
        return {section.name: section.facts for section in self.network_sections if section.facts is not None}

    def with_task_facts(self) -> SearchSpace:
        """Keep what a task of one's own is with the space. Imports its code.

        Returns:
            The space with these facts, or itself for a task of vitsearch.
        """
        if not self.task_source.is_own_code:
            return self
        facts = TaskFacts.of(self.task_source.find())
        return self.model_copy(update={"task": self.task.model_copy(update={"facts": facts})})

    def with_facts(self, facts: Mapping[str, NetworkFacts]) -> SearchSpace:
        """Add what was found out about networks.

        Args:
            facts: By the name of the network.

        Returns:
            The space with these facts.
        """
        if not facts:
            return self
        listed = tuple(
            choice.model_copy(update={"facts": facts[choice.name]}) if choice.name in facts else choice
            for choice in self.space.backbone
        )
        return self.model_copy(update={"space": self.space.model_copy(update={"backbone": listed})})

    @property
    def baseline_resolution(self) -> ImageSize:
        """The size of the images of the baseline."""
        return self.baseline.resolution or max(self.space.resolution)

    def choices(self) -> dict[str, tuple[Any, ...]]:
        """List every knob with its values.

        Returns:
            By knob, the values in the order of the file; a knob that is not searched has none.
        """
        return {name: self.choices_of(name) for name in Knobs.model_fields if name != "width_multiple"}

    def choices_of(self, knob: str) -> tuple[Any, ...]:
        """List the values of a knob.

        Args:
            knob: A key of `space:` in the file.

        Returns:
            The values in the order of the file.
        """
        values: tuple[Any, ...] = getattr(self.space, knob)
        return tuple(choice.name for choice in values) if knob == "backbone" else values

    def is_file(self, backbone: str) -> bool:
        """Whether a backbone is an ONNX file, which is never trained.

        Args:
            backbone: Any name.

        Returns:
            Whether it is one of the files of the space.
        """
        return any(choice.name == backbone and isinstance(choice, OnnxSection) for choice in self.space.backbone)

    def recipe(self, backbone: str) -> Recipe:
        """Give the recipe with which this study fine-tunes a backbone.

        Args:
            backbone: One of the space.

        Returns:
            The recipe with all its defaults.
        """
        return self.task.fine_tune.recipe(self.search.seed, backbone)

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values.

        Returns:
            The space with all defaults, in JSON types; the passwords of databases are masked.
        """
        value = self.model_dump(mode="json", by_alias=True)
        return value | {"storage": self.safe_storage, "search": value["search"] | {"prior": self.search.safe_prior}}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> SearchSpace:
        """Read what `to_json` returned, under the rules for a space file: a database may have been edited.

        Args:
            value: The plain values.

        Returns:
            The space.

        Raises:
            StudyError: A value is not valid; with the first problem.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"] if part not in TAGS)
            raise StudyError(
                printable(f"the space file that the study keeps is not valid: {where}: {first['msg']}"[:500])
            ) from None

    def differences(self, other: SearchSpace) -> list[str]:
        """Say what differs from a newer space.

        A key whose value is null counts as absent, so that a new limit is described by the bounds that it sets.

        Args:
            other: The newer space.

        Returns:
            A line such as `search.trials: 12 -> 20` for each key that differs.
        """
        old, new = dict(_leaves(self.to_json())), dict(_leaves(other.to_json()))
        keys = sorted(key for key in old.keys() | new.keys() if old.get(key, _NULL) != new.get(key, _NULL))
        return [f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}" for key in keys]


_NULL = json.dumps(None)


def _leaves(value: dict[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from _leaves(item, f"{before}{key}.")
        else:
            yield before + key, json.dumps(item)
