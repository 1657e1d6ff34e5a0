"""What `vitsearch check --json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vitsearch.core.image_size import ImageSize
from vitsearch.data.estimate import DataEstimate
from vitsearch.data.layout import Layout, PrintedClassCounts, PrintedSplits
from vitsearch.devices.descriptions import arithmetic
from vitsearch.devices.token_destinations import TokenUse, host_and_port, is_private
from vitsearch.search.check.connections import Connections
from vitsearch.search.check.costs import Costs
from vitsearch.search.check.device import CheckedDevices, JudgedDeployment, JudgedDevice
from vitsearch.search.check.probes import Answer
from vitsearch.search.check.space import Valid


@dataclass(frozen=True)
class PrintedData:
    """The data of a space file."""

    images: int
    """Training and validation images."""
    image_size: ImageSize
    """As stored: the side of a square, or height and width, in pixels."""
    channels: int
    """Of an image: 1 or 3."""
    mapped: bool
    """On disk instead of in memory."""
    decode_cpu_s: float
    """To decode them once."""
    sampled: int
    """Images that this was estimated from."""
    bytes: int
    """Of the decoded images."""
    classes: tuple[PrintedClassCounts, ...] | None
    """In the order of their labels; null where there were too many images to count."""
    splits: PrintedSplits | None
    """How many images each split has, and how it came about; null as classes are."""

    @classmethod
    def of(cls, estimate: DataEstimate, layout: Layout | None) -> PrintedData:
        counts = (None, None) if layout is None else (layout.printed_classes(), layout.printed_splits())
        said = {name: value for name, value in vars(estimate).items() if name != "too_dark"}  # among the warnings
        return cls(**said, bytes=estimate.bytes, classes=counts[0], splits=counts[1])


@dataclass(frozen=True)
class PrintedTokenUse:
    """An address that a run gives a token."""

    device: str
    """Name of the device or board."""
    address: str
    """Host and port that get the token."""
    variable: str | None
    """The environment variable that holds it; null for a token of 'vitsearch devices add'."""
    private: bool
    """False where it goes unencrypted to another machine."""

    @classmethod
    def of(cls, use: TokenUse) -> PrintedTokenUse:
        return cls(use.device, host_and_port(use.url), use.variable, is_private(use.url))


@dataclass(frozen=True)
class PrintedConnection:
    """Something that a run needs beside this machine."""

    what: str
    """What a run needs: storage, files, study, a device or board, weights of the hub."""
    where: str
    """Its address or name."""
    answer: str | None
    """What it answered; null where it failed."""
    problem: str | None
    """Why a run would not start; null where it works."""

    @classmethod
    def of(cls, answer: Answer) -> PrintedConnection:
        problem = None if answer.error is None else str(answer.error)
        return cls(answer.probe.what, answer.probe.where, answer.text, problem)


@dataclass(frozen=True)
class PrintedDeployment:
    """A runtime, provider and precision of the file on a device."""

    runtime: str
    """Name of the runtime."""
    provider: str
    """What computes."""
    precision: str
    """Of the model."""
    runs: bool
    """Whether the device runs it."""
    reason: str | None
    """Why not."""
    runs_in: str | None
    """The device's runtime and its version."""
    opset: int | None
    """Of its ONNX file."""

    @classmethod
    def of(cls, judged: JudgedDeployment) -> PrintedDeployment:
        place, runs = judged.deployment, judged.reason is None
        return cls(place.runtime, place.provider, place.precision, runs, judged.reason, judged.runs_in, judged.opset)


@dataclass(frozen=True)
class PrintedCheckedDevice:
    """What of the file runs on a device."""

    name: str
    """Name of the description."""
    sources: Mapping[str, str]
    """Part of the description -> where it is from."""
    cores: int | None
    """Of the processor; null where the description does not say it."""
    memory_mb: int | None
    """Of the device; null likewise."""
    versions: Mapping[str, str | None]
    """Python, and each runtime that is usable there."""
    arithmetic: tuple[str, ...] | None
    """The types in which the processor itself computes; null likewise."""
    deployments: tuple[PrintedDeployment, ...]
    """What runs on the device."""

    @classmethod
    def of(cls, device: JudgedDevice) -> PrintedCheckedDevice:
        description, info = device.description, device.description.info
        runtimes = {runtime.name: runtime.version for runtime in info.runtimes if runtime.available}
        return cls(
            name=description.name,
            sources=description.sources,
            cores=info.fingerprint.get("cores"),
            memory_mb=info.memory_mb,
            versions={"python": info.fingerprint.get("python"), **runtimes},
            arithmetic=arithmetic(info),
            deployments=tuple(map(PrintedDeployment.of, device.judged)),
        )


@dataclass(frozen=True)
class PrintedCheck:
    """A space file without problems."""

    study: str
    """Name of the study."""
    plans: int
    """Plans in the space."""
    trials: int | None
    """Trainings that are wanted."""
    notes: tuple[str, ...]
    """Why a run from this machine would end at once."""
    warnings: tuple[str, ...]
    """What makes results hard to judge."""
    data: PrintedData
    """What the data takes."""
    inputs: Mapping[str, str]
    """How each backbone reads images, in the keys of a space file."""
    weights: Mapping[str, str]
    """What files of weights do on some images, or that they are trained first."""
    tokens: tuple[PrintedTokenUse, ...]
    """The addresses that a run gives a token."""
    space: Mapping[str, Any]
    """The space file with every default."""
    devices: tuple[PrintedCheckedDevice, ...] | None
    """What runs on which device; null without --as."""
    connections: tuple[PrintedConnection, ...] | None
    """What was tried; null without --connect."""
    costs: Costs | None
    """What the search will cost; null with --no-costs."""

    @classmethod
    def of(cls, checked: Valid | CheckedDevices, tried: Connections | None, costs: Costs | None) -> PrintedCheck:
        valid = checked if isinstance(checked, Valid) else checked.valid
        devices = None if isinstance(checked, Valid) else tuple(map(PrintedCheckedDevice.of, checked.devices))
        return cls(
            study=valid.space.study,
            plans=valid.plans,
            trials=valid.space.search.wanted,
            notes=tuple(valid.notes),
            warnings=valid.warnings,
            data=PrintedData.of(valid.data, valid.layout),
            inputs=valid.inputs(),
            weights=valid.tried,
            tokens=tuple(map(PrintedTokenUse.of, valid.tokens)),
            space=valid.space.to_json(),
            devices=devices,
            connections=None if tried is None else tuple(map(PrintedConnection.of, tried.answers)),
            costs=costs,
        )
