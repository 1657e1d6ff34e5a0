"""What makes the numbers of a study comparable: its objectives, data, baseline and fleet. A study keeps what it was
begun with, and refuses to go on with anything else; for its devices see `vitsearch.study.devices`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from vitsearch.core.device_identity import NamedDevice
from vitsearch.core.fleet import Fleet
from vitsearch.data import describe_difference
from vitsearch.errors import StudyError
from vitsearch.space import SearchSpace
from vitsearch.space.changes import SpaceChange
from vitsearch.study.devices import refuse_other_names

FIXED = ("objectives", "task.kind", "task.data", "baseline", "fleet")


class HasAttributes(Protocol):
    """What is needed of `vitsearch.study.study.Study`."""

    @property
    def name(self) -> str: ...

    @property
    def attributes(self) -> Mapping[str, Any]: ...

    @property
    def devices(self) -> Mapping[str, NamedDevice]: ...

    def remember(self, key: str, value: Any) -> None: ...

    def change(self, key: str, change: Callable[[Any], Any]) -> Any: ...

    def records(self) -> Mapping[int, Any]: ...


def adopt_space(study: HasAttributes, space: SearchSpace) -> SpaceChange | None:
    """Store the space; what has changed in its choices since it was stored. Other objectives, data or baseline,
    and other devices than those that have measured, are refused with the difference."""
    stored, change = study.attributes.get("space"), None
    if stored == space.to_json():
        return None
    if stored is not None:
        refuse_other_space(study, space)
        before = SearchSpace.from_json(stored)
        if (change := SpaceChange.between(before, space, len(study.records()))) is not None:
            added = change.to_json()
            study.change("space_changes", lambda changes: [*(changes or []), added])
    study.remember("space", space.to_json())
    return change


def refuse_other_space(study: HasAttributes, space: SearchSpace) -> None:
    """Raise `StudyError`, with the difference, where a study cannot go on with a space."""
    stored = study.attributes.get("space")
    if stored is not None and stored != space.to_json():
        before = SearchSpace.from_json(stored)
        refuse_other_names(study, before.device_names, space.device_names)
        _refuse_other_networks(study.name, before, space)
        _refuse_changes(before, space)


def _refuse_other_networks(study: str, before: SearchSpace, now: SearchSpace) -> None:
    """A network of the user's under the name of another one: its results would be taken for those of the new one."""
    stored = before.network_facts
    for name, facts in now.network_facts.items():
        if name in stored and stored[name].architecture != facts.architecture:
            raise StudyError(
                f"study {study!r}: the code or file of {name!r} has changed since the study began (architecture "
                f"{stored[name].architecture[:12]}, now {facts.architecture[:12]}), so nothing of it can be reused; "
                "give the new network another 'name', or the study another one ('study: NAME')"
            )


def adopt_data(study: HasAttributes, description: Mapping[str, Any]) -> None:
    """Store the identity of the study's data; on resume, other data is refused with the difference."""
    stored = study.attributes.get("data")
    if stored is None:
        study.remember("data", dict(description))
        return
    if differing := describe_difference(stored, description):
        raise StudyError(
            f"study {study.name!r} was made with other data; give the study another name. "
            f"What differs: {'; '.join(differing)}"
        )


def adopt_samples(study: HasAttributes, samples: Sequence[tuple[str, str]]) -> None:
    """Store the images that the report shows, where the task has any."""
    if samples and study.attributes.get("samples") is None:
        study.remember("samples", [list(pair) for pair in samples])


def adopt_judge(study: HasAttributes, judged_by: str) -> None:
    """Store what the outputs of models are judged by; on resume, anything else is refused."""
    stored = study.attributes.get("judged_by")
    if stored is None:
        study.remember("judged_by", judged_by)
    elif stored != judged_by:
        raise StudyError(
            f"study {study.name!r}: the code of its task, or its reference, has changed since the study began, so "
            "nothing of it can be compared; give the study another name ('study: NAME')"
        )


def adopt_fleet(study: HasAttributes, fleet: Fleet) -> None:
    """Store the devices on which models are measured, by the id that stands for them in the keys of a trial."""
    study.change("fleets", lambda fleets: (fleets or {}) | {fleet.device_id: fleet.to_json()})


def _refuse_changes(before: SearchSpace, now: SearchSpace) -> None:
    broken = [line for line in before.differences(now) if line.startswith(FIXED)]
    if before.fleet_names != now.fleet_names:
        was, is_now = (", ".join(space.device_names) for space in (before, now))
        broken.append(f"devices: {was} -> {is_now}")
    if broken:
        raise StudyError(
            f"study {before.study!r} cannot continue with another objective, task, data set, baseline or fleet; "
            "give the study another name. What differs: " + "; ".join(broken)
        )
