"""Opens the device of a space file: an agent elsewhere, boards of one class, a fleet, or an agent of our own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from functools import partial

from vitsearch.core.device_identity import DeviceIdentity
from vitsearch.devices.agent_device import AgentDevice, Device, DeviceGroup
from vitsearch.devices.board_pool import BoardPool
from vitsearch.devices.connection import FOREVER_S, connect, known_device
from vitsearch.devices.cores import Cores, fastest, processors
from vitsearch.devices.fleet import FleetDevice
from vitsearch.devices.local_device import LocalDevice
from vitsearch.devices.recognized_device import RecognizedDevice
from vitsearch.devices.token_destinations import TokenDestination
from vitsearch.errors import DeviceLost
from vitsearch.search.resources import cores_here
from vitsearch.search.study_folders import StudyFolders
from vitsearch.space import LOCAL_DEVICE, SearchSpace
from vitsearch.study.devices import adopt_device, recognize_device
from vitsearch.study.lookup import text_for
from vitsearch.study.study import Study
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.errors import AgentError


@contextmanager
def cores_kept_free(space: SearchSpace) -> Iterator[Cores | None]:
    """The cores of a machine that measures for itself, whose last ones this process and what it starts meanwhile leave
    to the device; None for a space with devices of its own."""
    cores = cores_here(space)
    with cores.kept_free() if cores else nullcontext():
        yield cores


@contextmanager
def open_device(
    study: Study, space: SearchSpace, cores: Cores | None, note: Callable[[str], None], failures: int = 0
) -> Iterator[DeviceGroup]:
    """The device of the space file (several are a fleet), else an agent of our own on this machine.

    Raises `StudyError` for a device that is not the one that measured for the study before.
    `note` gets a line about others that measure on this machine.
    `failures` counts the failed trials that are tried again: the agent keeps failures as final under their numbers.
    """
    with connected(space, cores, note, failures) as connections:
        devices = [_recognized(study, space, device) for device in connections]
        yield devices[0] if len(devices) == 1 else FleetDevice(devices)


@contextmanager
def connected(
    space: SearchSpace, cores: Cores | None, note: Callable[[str], None], failures: int = 0
) -> Iterator[list[Device]]:
    """The devices of the space file, else an agent of our own on this machine, pinned to the cores that measure.

    Our own agent watches its standard input and so ends with this process, also when it is killed. The client itself
    waits without end; `devices.availability` decides when waiting makes no sense any more.
    """
    with ExitStack() as closing:
        if cores is None:
            devices = []
            for name in space.devices:
                device = _remote(space, name, note, failures)
                closing.callback(device.close)
                devices.append(device)
            yield devices
            return
        pinned = ",".join(map(str, cores.device))
        if len(fastest(available := processors())) < len(available):
            note(f"device {LOCAL_DEVICE}: processor {pinned} measures; the cores of this machine are of several kinds")
        try:
            agent = closing.enter_context(EmbeddedAgent(str(StudyFolders.of(space).agent), cpus=pinned))
        except (AgentError, OSError) as error:
            raise DeviceLost(f"device {LOCAL_DEVICE}: {error}") from error
        local = LocalDevice(LOCAL_DEVICE, agent, space.study, note, failures)
        closing.callback(local.close)
        yield [local]


def described(device: Device) -> str:
    """A device in a note: its name and host, and its processor."""
    identity, info = DeviceIdentity.of(device.info), device.info
    what = "EMULATED" if identity.kind == "emulated" else info.fingerprint.get("cpu") or info.kind
    return f"device {identity.label(device.name)}: {what}"


def _recognized(study: Study, space: SearchSpace, device: Device) -> Device:
    name, identity = device.name, DeviceIdentity.of(device.info)
    where = text_for(space.storage, space.study)
    device_id = recognize_device(study, name, identity, where)
    return RecognizedDevice(device, device_id, partial(adopt_device, study, name, identity, where))


def _remote(space: SearchSpace, name: str, note: Callable[[str], None], failures: int) -> Device:
    boards = open_boards(space, name, note, failures)
    return boards[0] if not space.devices[name].boards else BoardPool(name, boards, note)


def open_boards(space: SearchSpace, name: str, note: Callable[[str], None], failures: int) -> list[AgentDevice]:
    """Those boards of a device of the file that answer; at least one has to."""
    section, boards, away = space.devices[name], list[AgentDevice](), list[DeviceLost]()
    for board, described in section.boards_of(name).items():
        way = known_device(board, described, os.environ)
        if (destination := TokenDestination.of(described)) is not None:
            note(f"device {board}: {destination.describe()}")
        client = connect(board, way, space.study, FOREVER_S)
        try:
            boards.append(AgentDevice(board, client, failures, section.deadline_s))
        except DeviceLost as error:
            away.append(error)
    if not boards:
        raise away[0]
    for lost in away:
        note(f"{lost}; the run goes on without it")
    return boards
