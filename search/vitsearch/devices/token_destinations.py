"""Which address gets which token of the environment: the one beside it in a space file that this user has used.

`vitsearch check` shows it. A study keeps the devices of its space file, but whoever can write in a database can
change them; so what a database says of tokens counts only where a space file of this user has said the same. What files
that were checked or run have said is in `token_destinations.json` beside the known devices, without any token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from vitsearch.devices.registry import DeviceBook, KnownDevice
from vitsearch.errors import ResourceError
from vitsearch.space.sections import BoardSection, DeviceSection
from vitsearch.storage.atomic_files import replacing
from vitsearch.storage.locks import locked
from vitsearch_agent.server.address import is_loopback

_VERSION = 1
_KEPT = 1000
_PORTS = {"https": 443, "http": 80}
_named_here: set[TokenDestination] = set()
"""What files have said to this process, for a home folder in which nothing can be written."""


UNENCRYPTED = ", unencrypted: who is on the way can read it"


@dataclass(frozen=True)
class TokenDestination:
    """`variable` holds the token that goes to `url`, if the certificate has this `fingerprint`; None where an
    authority that this machine trusts has to have signed it, or where there is no certificate."""

    variable: str
    url: str
    fingerprint: str | None

    @classmethod
    def of(cls, board: BoardSection) -> TokenDestination | None:
        """None for a device without a token of the environment."""
        if board.token is None or board.url is None:
            return None
        return cls(board.token.removeprefix("env:"), board.url, board.fingerprint)

    def describe(self) -> str:
        return f"{host_and_port(self.url)} gets the token in {self.variable}{_warned(self.url)}"


class TokenDestinations:
    """The destinations that space files have named to this user. A file that cannot be read counts as empty."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> TokenDestinations:
        return cls(DeviceBook.of_user(environ).path.with_name("token_destinations.json"))

    def remember(self, destinations: Iterable[TokenDestination]) -> None:
        """Add destinations that a space file names. Where nothing can be written, they count in this process."""
        added = set(destinations)
        _named_here.update(added)
        if not added:
            return
        with suppress(OSError):
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.path.parent / ".token_destinations.lock"):
                stored = self._read()
                if added - set(stored):
                    self._write([*(destination for destination in stored if destination not in added), *added])

    def __contains__(self, destination: TokenDestination) -> bool:
        return destination in _named_here or destination in self._read()

    def _read(self) -> list[TokenDestination]:
        try:
            content: Any = json.loads(self.path.read_text())
            stored = content["destinations"] if content["version"] == _VERSION else []
            return [TokenDestination(**destination) for destination in stored]
        except (OSError, ValueError, KeyError, TypeError):
            return []

    def _write(self, destinations: list[TokenDestination]) -> None:
        kept = [asdict(destination) for destination in destinations[-_KEPT:]]
        content = {"version": _VERSION, "destinations": kept}
        with replacing(self.path, mode=0o600) as stream:
            stream.write(json.dumps(content, indent=2).encode())


def destinations_of(devices: Mapping[str, DeviceSection]) -> Iterator[tuple[str, TokenDestination]]:
    """The devices and boards that get a token of the environment, by name."""
    for name, device in devices.items():
        for board, section in device.boards_of(name).items():
            if (destination := TokenDestination.of(section)) is not None:
                yield board, destination


@dataclass(frozen=True)
class TokenUse:
    """The address at which a device of a space file gets a token: that in `variable`, or for None the one that this
    user has stored for the device."""

    device: str
    url: str
    variable: str | None

    def describe(self) -> str:
        what = f"in {self.variable}" if self.variable is not None else "stored by 'vitsearch devices add'"
        return f"device {self.device}: {host_and_port(self.url)} gets the token {what}{_warned(self.url)}"


def token_uses(devices: Mapping[str, DeviceSection], environ: Mapping[str, str]) -> Iterator[TokenUse]:
    """What a run on these devices gives to which address, as far as it can be known without the network."""
    book: Mapping[str, KnownDevice] = {}
    with suppress(ResourceError):  # of a book that cannot be read; who connects says so
        book = DeviceBook.of_user(environ).devices()
    for name, device in devices.items():
        for board, section in device.boards_of(name).items():
            if (destination := TokenDestination.of(section)) is not None:
                yield TokenUse(board, destination.url, destination.variable)
            elif (entry := book.get(board)) is not None and entry.token and section.url in (None, entry.url):
                yield TokenUse(board, entry.url, None)


def remember_destinations(devices: Mapping[str, DeviceSection], environ: Mapping[str, str]) -> None:
    """Remember what a space file says of tokens, which this user checks or runs."""
    TokenDestinations.of_user(environ).remember(destination for _, destination in destinations_of(devices))


def refuse_unnamed(name: str, destination: TokenDestination, environ: Mapping[str, str]) -> None:
    """Raise `ResourceError` for a destination that no space file has named to this user."""
    if destination not in TokenDestinations.of_user(environ):
        raise ResourceError(
            f"device {name}: by the database of the study, {destination.describe()}, but no space file that you have "
            "checked or run here says so; if it is right, run: vitsearch check FILE, with a file that names both"
        )


def host_and_port(url: str) -> str:
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return f"{f'[{host}]' if ':' in host else host}:{parts.port or _PORTS[parts.scheme]}"


def is_private(url: str) -> bool:
    """Whether nobody on the way can read what is sent there."""
    parts = urlsplit(url)
    return parts.scheme == "https" or is_loopback(parts.hostname or "")


def _warned(url: str) -> str:
    return "" if is_private(url) else UNENCRYPTED
