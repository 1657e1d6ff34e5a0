"""Pairing with a device: the user compares its certificate once, and its token is tested before it is stored."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from vitsearch.devices.connection import connect
from vitsearch.devices.registry import DeviceBook, KnownDevice
from vitsearch.errors import DeviceLost, ResourceError
from vitsearch.space.value_types import agent_url
from vitsearch_agent.base.tls import checked_fingerprint
from vitsearch_agent.client.transport import peer_fingerprint
from vitsearch_agent.errors import AgentError, Unauthorized, UntrustedDevice
from vitsearch_agent.wire.protocol import DeviceInfo

_ANSWER_S = 15.0
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")


@dataclass(frozen=True)
class PairingRequest:
    """The arguments of the command. Raises `ResourceError` for an invalid address, name or fingerprint."""

    url: str
    name: str
    fingerprint: str | None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ResourceError(f"{self.name!r} is not a valid device name; allowed: a-z, 0-9, - and _")
        try:
            object.__setattr__(self, "url", agent_url(self.url))
            if self.fingerprint is not None:
                object.__setattr__(self, "fingerprint", checked_fingerprint(self.fingerprint))
        except (ValueError, AgentError) as error:
            raise ResourceError(str(error)) from error


@dataclass(frozen=True)
class Paired:
    """A device that answered to its token."""

    device: KnownDevice
    info: DeviceInfo


def name_from(url: str) -> str:
    """The default name of a device: `nano` for `https://nano.local:8470`; an IP address as a whole, with dashes."""
    host = (urlsplit(url).hostname or "").lower()
    label = host if re.fullmatch(r"[0-9.:a-f]*[.:][0-9.:a-f]*", host) else host.partition(".")[0]
    return re.sub(r"[^a-z0-9_-]+", "-", label).strip("-_") or "device"


def pin(request: PairingRequest, book: DeviceBook, confirm: Callable[[str, str], None]) -> str | None:
    """The fingerprint to trust: the given one, the stored one of this address, or one that `confirm` accepts.

    None for an http address. Raises `DeviceLost` when the device does not answer.
    """
    if request.fingerprint is not None or request.url.startswith("http:"):
        return request.fingerprint
    entry = book.devices().get(request.name)
    if entry is not None and entry.url == request.url and entry.fingerprint is not None:
        return entry.fingerprint
    try:
        fingerprint = peer_fingerprint(request.url, _ANSWER_S)
    except AgentError as error:
        raise DeviceLost(str(error)) from error
    confirm(request.url, fingerprint)
    return fingerprint


def verified(request: PairingRequest, fingerprint: str | None, token: str) -> Paired:
    """Test the token with a request. Raises `DeviceLost` with the reason when the device refuses it."""
    device = KnownDevice(request.url, token, fingerprint)
    with connect(request.name, device, "devices") as client:
        try:
            if request.url.startswith("http:"):
                _refuse_tls_behind(request)
            return Paired(device, client.device())
        except UntrustedDevice as error:
            again = "if the certificate has changed, add the device again with the new --fingerprint"
            raise DeviceLost(f"device {request.name} was not added: {error}; {again}") from error
        except AgentError as error:
            raise DeviceLost(f"device {request.name} was not added: {error}") from error


def _refuse_tls_behind(request: PairingRequest) -> None:
    """Ask without the token first. With http:// by mistake, the token would cross the network unencrypted."""
    with connect(request.name, KnownDevice(request.url), "devices") as client, suppress(Unauthorized):
        client.device()
