"""The devices that this user knows: address, pinned certificate and token of each, outside every space file.

``~/.config/vitsearch/devices.json``, readable for its owner alone and replaced in one step; who changes it
holds a lock beside it, so that two commands at the same time both leave their device. A space file then says
``devices: [nano]``.
"""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitsearch.errors import ResourceError, UnknownName
from vitsearch.storage.locks import locked

_VERSION = 1


@dataclass(frozen=True)
class KnownDevice:
    """How an agent is reached; ``token`` None only where it lets everybody in."""

    url: str
    token: str | None = field(default=None, repr=False)
    fingerprint: str | None = None


class DeviceBook:
    """Reads the file at each call: another process may have written it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> DeviceBook:
        """The user's own, by the XDG base directory specification."""
        config = environ.get("XDG_CONFIG_HOME", "")
        base = Path(config) if os.path.isabs(config) else Path(environ.get("HOME") or Path.home()) / ".config"
        return cls(base / "vitsearch" / "devices.json")

    def devices(self) -> dict[str, KnownDevice]:
        """:class:`ResourceError` when others can read the tokens, or the file is damaged."""
        try:
            with self.path.open() as stream:
                mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
                content = json.load(stream)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ResourceError(f"{self.path} cannot be read: {error}") from error
        if mode & 0o077:
            raise ResourceError(f"{self.path} holds tokens and others can open it ({mode:o}): chmod 600 {self.path}")
        return self._read(content)

    def get(self, name: str) -> KnownDevice:
        known = self.devices()
        if name not in known:
            if not known:
                raise ResourceError(f"device {name!r} is not known here: vitsearch devices add URL {name}")
            raise UnknownName("device", name, known)
        return known[name]

    def put(self, name: str, device: KnownDevice) -> None:
        """Add a device, or replace the one of that name."""
        with self._alone():
            self._write({**self.devices(), name: device})

    def remove(self, name: str) -> None:
        """Forget a device; :class:`UnknownName` when it is not there."""
        with self._alone():
            self.get(name)
            self._write({other: device for other, device in self.devices().items() if other != name})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else changes the book meanwhile."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.path.parent / ".devices.lock"):  # a file of its own: the book itself is replaced
                yield
        except OSError as error:
            raise ResourceError(f"{self.path} cannot be written: {error}") from error

    def _read(self, content: Any) -> dict[str, KnownDevice]:
        try:
            if content["version"] != _VERSION:
                raise ResourceError(f"{self.path} was written by another version of vitsearch ({content['version']!r})")
            return {str(name): KnownDevice(**device) for name, device in content["devices"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ResourceError(
                f"{self.path} is damaged ({error}): mend it, or remove it and add the devices"
            ) from error

    def _write(self, devices: dict[str, KnownDevice]) -> None:
        content = {"version": _VERSION, "devices": {name: asdict(device) for name, device in sorted(devices.items())}}
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=".devices-")  # 0600 from the start
        with open(descriptor, "w") as stream:
            json.dump(content, stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self.path)
