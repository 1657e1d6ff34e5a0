"""The devices that this user has added: address, pinned certificate and token of each, outside every space file.

They are stored in `~/.config/vitsearch/devices.json`, which only its owner can read. A command that changes the
file holds a lock file beside it, so that two commands at the same time both keep their device, and replaces the file
in one step. A space file then names a device: `devices: [nano]`.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vitsearch.errors import ResourceError, UnknownName
from vitsearch.storage.atomic_files import replacing
from vitsearch.storage.locks import locked

_VERSION = 1


@dataclass(frozen=True)
class KnownDevice:
    """The address and credentials of an agent. `token` is None only for an agent that asks for none."""

    url: str
    token: str | None = field(default=None, repr=False)
    fingerprint: str | None = None


class DeviceBook:
    """The file of known devices. Every call reads the file, because another process may have changed it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of_user(cls, environ: Mapping[str, str]) -> DeviceBook:
        """The user's file, at the path that the XDG base directory specification gives."""
        config = environ.get("XDG_CONFIG_HOME", "")
        base = Path(config) if os.path.isabs(config) else Path(environ.get("HOME") or Path.home()) / ".config"
        return cls(base / "vitsearch" / "devices.json")

    def devices(self) -> dict[str, KnownDevice]:
        """The known devices by name. Raises `ResourceError` when others can read the tokens or the file is
        damaged."""
        try:
            with self.path.open() as stream:
                mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
                content = json.load(stream)
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise ResourceError(f"{self.path} cannot be read: {error}") from error
        if mode & 0o077:
            raise ResourceError(
                f"{self.path} holds tokens, but other users can open it (mode {mode:o}, allowed: 600); "
                f"run: chmod 600 {self.path}"
            )
        return self._read(content)

    def get(self, name: str) -> KnownDevice:
        """The device called `name`. Raises `UnknownName` with the nearest name, or `ResourceError` when
        no device is known at all."""
        devices = self.devices()
        if name not in devices:
            if not devices:
                raise ResourceError(f"device {name!r} is not known here; add it: vitsearch devices add URL {name}")
            raise UnknownName("device", name, devices)
        return devices[name]

    def put(self, name: str, device: KnownDevice) -> None:
        """Add a device, or replace the one of that name."""
        with self._alone():
            self._write({**self.devices(), name: device})

    def remove(self, name: str) -> None:
        """Forget a device. Raises `UnknownName` when there is none of that name."""
        with self._alone():
            self.get(name)
            self._write({other: device for other, device in self.devices().items() if other != name})

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other processes from changing the file during the block."""
        try:
            self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self.path.parent / ".devices.lock"):  # a file of its own: the book itself is replaced
                yield
        except OSError as error:
            raise ResourceError(f"{self.path} cannot be written: {error}") from error

    def _read(self, content: Any) -> dict[str, KnownDevice]:
        try:
            if content["version"] != _VERSION:
                raise ResourceError(
                    f"{self.path} has format version {content['version']!r}; this vitsearch reads version {_VERSION}"
                )
            return {str(name): KnownDevice(**device) for name, device in content["devices"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise ResourceError(
                f"{self.path} is damaged ({error}); fix it, or remove it and add the devices again"
            ) from error

    def _write(self, devices: dict[str, KnownDevice]) -> None:
        content = {"version": _VERSION, "devices": {name: asdict(device) for name, device in sorted(devices.items())}}
        with replacing(self.path, mode=0o600) as stream:
            stream.write(json.dumps(content, indent=2).encode())
