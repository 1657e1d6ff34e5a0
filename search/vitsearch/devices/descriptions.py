"""Descriptions of devices, as their agents report them at GET /v1/device: those that ship here, and files of the user.

With one, a space is judged for a device that is not connected: `vitsearch check SPACE --as jetson_nano`. A file has
the agent's report under `device`, and under `sources` for each part of it where and when it was recorded, or from what
it was assembled. `vitsearch devices describe NAME` writes such a file, and `vitsearch-agent selftest` a longer one that
is a description too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

from vitsearch.errors import ResourceError, UnknownName
from vitsearch_agent.base import json_reader
from vitsearch_agent.errors import AgentError, InvalidRequest
from vitsearch_agent.selftest.report import SelftestReport
from vitsearch_agent.wire.protocol import DeviceInfo

_DESCRIPTION: Mapping[str, json_reader.Reader] = {
    "sources": json_reader.mapping(json_reader.text),
    "device": DeviceInfo.from_json,
}
_ARITHMETIC = {
    "fp32": frozenset({"neon", "asimd", "avx"}),
    "fp16": frozenset({"asimdhp", "avx512_fp16", "amx_fp16"}),
    "bf16": frozenset({"bf16", "svebf16", "avx512_bf16", "amx_bf16"}),
    "int8 dot products": frozenset({"asimddp", "avx512_vnni", "avx_vnni"}),
    "int8 matrices": frozenset({"i8mm", "svei8mm", "amx_int8"}),
}
"""Type -> the features any of which computes in it."""
_SHIPPED = resources.files("vitsearch.devices") / "shipped_descriptions"


@dataclass(frozen=True)
class DeviceDescription:
    """What the agent of a device called `name` reports, and where that comes from: part of it -> sentences."""

    name: str
    sources: Mapping[str, str]
    info: DeviceInfo

    def to_json(self) -> dict[str, Any]:
        return {"sources": dict(self.sources), "device": self.info.to_json()}

    def in_words(self) -> str:
        """The board, its cores and memory, and the software that decides what runs on it."""
        environment = self.info.fingerprint
        cores, memory = environment.get("cores"), self.info.memory_mb
        words = [
            str(environment.get("board") or environment.get("cpu") or "a device without a name"),
            "cores unknown" if cores is None else f"{cores} cores",
            "memory unknown" if memory is None else f"{memory} MB",
            *(str(environment[name]) for name in ("machine", "l4t") if environment.get(name)),
            f"Python {environment.get('python') or 'unknown'}",
        ]
        return ", ".join(words)


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


def arithmetic(info: DeviceInfo) -> tuple[str, ...] | None:
    """The types in which the processor itself computes on vectors, by its features; None where they are not known.

    A runtime may compute in another type too, by conversions, which is slower. What a GPU computes in does not count.
    """
    features = info.fingerprint.get("features")
    if features is None:
        return None
    return tuple(name for name, needed in _ARITHMETIC.items() if needed.intersection(features))


def find_named(text: str) -> DeviceDescription:
    """`jetson_nano` as `find`; `nano=jetson_nano` is called `nano`, as in a space file."""
    name, _, device = text.rpartition("=")
    return replace(find(device), name=name) if name else find(device)


def read(content: bytes, name: str, where: str) -> DeviceDescription:
    """The description in `content`, which comes from `where`. The plain report of an agent and the file of a selftest
    are one too."""
    try:
        value = json.loads(content)
        if isinstance(value, dict) and "recording" in value:
            value = _of_selftest(value)
        elif isinstance(value, dict) and "device" not in value:
            value = {"sources": {"device": where}, "device": value}
        fields = json_reader.read_object(value, _DESCRIPTION, "file")
    except (ValueError, AgentError) as error:
        raise ResourceError(
            f"{where}: holds no description of a device ({error}); 'vitsearch devices describe NAME' writes one"
        ) from error
    return DeviceDescription(name, fields["sources"], fields["device"])


def _of_selftest(value: dict[str, Any]) -> dict[str, Any]:
    """The description in the file of a selftest. Raises `InvalidRequest` where no agent could be started."""
    report = SelftestReport.from_json(value, "file")
    if report.device is None:
        raise InvalidRequest("file.device: the selftest could start no agent")
    when = f"Recorded by `vitsearch-agent selftest` {report.agent} on {report.started_at[:10]}."
    return {"sources": {"device": when}, "device": report.device.to_json()}
