"""How the agent of a device is reached: the keys of the space file, completed by what this user has stored."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vitsearch.devices.registry import DeviceBook, KnownDevice
from vitsearch.devices.token_destinations import TokenDestination, refuse_unnamed
from vitsearch.errors import ResourceError, VitsearchError
from vitsearch.space.sections import BoardSection, DeviceSection
from vitsearch_agent.client.client import DeviceClient
from vitsearch_agent.errors import AgentError

DEADLINE_S = 900.0
ANSWER_S = 30.0
FOREVER_S = math.inf


def known_device(name: str, board: BoardSection, environ: Mapping[str, str]) -> KnownDevice:
    """The address and credentials of a device of a space file. Keys that the file leaves out are looked up by name.

    A stored token is never sent to another address or certificate than the ones it was stored for, one of the
    environment to none but the one beside it in a space file. Raises `ResourceError` or
    `UnknownName`.
    """
    if (destination := TokenDestination.of(board)) is not None:
        refuse_unnamed(name, destination, environ)
    book = DeviceBook.of_user(environ)
    if board.url is None:
        stored = book.get(name)
    else:
        entry = book.devices().get(name)
        stored = entry if entry is not None and entry.url == board.url else KnownDevice(board.url)
    token = stored.token if board.token is None else token_from(board.token, environ)
    if board.token is None and token is not None and board.fingerprint not in (None, stored.fingerprint):
        raise ResourceError(
            f"device {name}: the space file has the certificate {board.fingerprint}, but the stored token belongs to "
            f"the certificate {stored.fingerprint}; if the space file is right, run: vitsearch devices add "
            f"{stored.url} {name} --fingerprint {board.fingerprint}"
        )
    return KnownDevice(stored.url, token, board.fingerprint or stored.fingerprint)


def connection_problems(devices: Mapping[str, DeviceSection], environ: Mapping[str, str]) -> list[str]:
    """Why a run on this machine could not connect to its devices, as far as it can be seen without the network."""
    problems = []
    boards = {name: each for device, section in devices.items() for name, each in section.boards_of(device).items()}
    for name, board in boards.items():
        try:
            known_device(name, board, environ)
        except VitsearchError as error:
            problems.append(str(error))
    return problems


def connect(
    name: str, way: KnownDevice, owner: str, deadline_s: float = DEADLINE_S, timeout_s: float = ANSWER_S
) -> DeviceClient:
    """Make a client without sending anything; `timeout_s` is for each answer.

    Raises `ResourceError` for an invalid token or fingerprint.
    """
    try:
        return DeviceClient(way.url, way.token, owner, timeout_s, deadline_s, fingerprint=way.fingerprint)
    except AgentError as error:
        raise ResourceError(f"device {name}: {error}") from error


def token_from(reference: str, environ: Mapping[str, str]) -> str:
    """The value of the variable in `env:NAME`. Raises `ResourceError` when it is not set."""
    name = reference.removeprefix("env:")
    if name not in environ:
        raise ResourceError(f"devices: the environment variable {name} must hold the token, but it is not set")
    return environ[name]
