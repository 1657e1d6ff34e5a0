"""Descriptions of devices, as their agents report them at GET /v1/device: those that ship here, and files of the user.

With one, a space is judged for a device that is not connected: `vitsearch check SPACE --as jetson_nano`. A file has
the agent's report under `device`, and under `source` where and when it was recorded, or from what it was assembled.
`vitsearch devices describe NAME` writes such a file.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from vitsearch.errors import ResourceError, UnknownName
from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import AgentError
from vitsearch_agent.wire.protocol import DeviceInfo

_SHIPPED = resources.files("vitsearch.devices") / "shipped_descriptions"


@dataclass(frozen=True)
class DeviceDescription:
    """What the agent of a device called `name` reports, and where that comes from, in some sentences."""

    name: str
    source: str
    info: DeviceInfo

    def to_json(self) -> dict[str, Any]:
        return {"source": self.source, "device": self.info.to_json()}


def shipped() -> tuple[str, ...]:
    """The names of the descriptions in `shipped_descriptions/`, sorted."""
    return tuple(sorted(file.name.removesuffix(".json") for file in _SHIPPED.iterdir()))


def find(name_or_file: str) -> DeviceDescription:
    """The shipped description of that name, otherwise the one in the file.

    `UnknownName` when there is neither, with the nearest name;
    `ResourceError` for a file that cannot be read or holds no description.
    """
    if name_or_file in shipped():
        return read((_SHIPPED / f"{name_or_file}.json").read_bytes(), name_or_file, name_or_file)
    path = Path(name_or_file)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise UnknownName("file or device description", name_or_file, shipped()) from None
    except OSError as error:
        raise ResourceError(f"{path}: cannot be read ({error.strerror})") from error
    return read(content, path.stem, str(path))


def find_named(text: str) -> DeviceDescription:
    """`jetson_nano` as `find`; `nano=jetson_nano` is called `nano`, as in a space file."""
    name, _, device = text.rpartition("=")
    return replace(find(device), name=name) if name else find(device)


def read(content: bytes, name: str, where: str) -> DeviceDescription:
    """The description in `content`, which comes from `where`. The plain report of an agent is one too."""
    try:
        value = json.loads(content)
        if isinstance(value, dict) and "device" not in value:
            value = {"source": where, "device": value}
        fields = json_reader.read_object(value, {"source": json_reader.text, "device": DeviceInfo.from_json}, "file")
    except (ValueError, AgentError) as error:
        raise ResourceError(
            f"{where}: holds no description of a device ({error}); 'vitsearch devices describe NAME' writes one"
        ) from error
    return DeviceDescription(name, fields["source"], fields["device"])
