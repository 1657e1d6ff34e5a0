"""The runtimes that files are made for: what is known of each is declared in its folder of `vitsearch.targets`.

Another package declares one through the entry-point group `vitsearch.targets` (`name = "module:TARGET"`).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from typing import Literal

from vitsearch.registry import Registry

ANY = ("*",)


@dataclass(frozen=True)
class AgentRuntime:
    """What an agent calls a runtime that opens the files of a target, and what it is asked.

    Attributes:
        name: In the agent.
        provider_option: The option of a job that names what computes; None without one.
        precision_option: The option that names the arithmetic; None without one.
        precision_words: Precision -> the value of that option, where it has another name there.
        lists_providers: Whether the agent lists what computes by the names of `Target.providers`: `where known` if an
            empty list says nothing, `cpu alone` if it lists none and has the CPU.
        lists_precisions: Whether its list of precisions is complete.
    """

    name: str
    provider_option: str | None = None
    precision_option: str | None = None
    precision_words: Mapping[str, str] = field(default_factory=dict)
    lists_providers: Literal["no", "yes", "where known", "cpu alone"] = "no"
    lists_precisions: bool = False


@dataclass(frozen=True)
class Converter:
    """A tool in an environment of its own, because it pins libraries that vitsearch has in other versions.

    Attributes:
        requirements: What its environment holds.
        size: What that takes, in words.
        verify: `"module:function"` of what tries it once, given its Python.
        reads_torch: It holds the version of torch that wrote the program to convert too.
    """

    requirements: tuple[str, ...]
    size: str
    verify: str
    reads_torch: bool = False


@dataclass(frozen=True)
class Npu:
    """A provider that compiles a file for one chip: its batch is fixed, and a quantized file has every operator
    quantized, so there is no choice of layers.

    Attributes:
        package: What pip installs for it on a device.
        is_imitated: `"module:function"`: whether a processor, such as `x86_64`, imitates it.
    """

    package: str
    is_imitated: str


@dataclass(frozen=True)
class FusedOperators:
    """Where a runtime reads its fused operators: on one provider, since a version, but in some precisions."""

    provider: str
    since: tuple[int, int]
    not_in: frozenset[str] = frozenset()


@dataclass(frozen=True)
class KnownBad:
    """A combination that was measured, or published, to be slow, inexact or void.

    `backbones` are shell patterns of names, `precisions` and `providers` patterns too; only files that
    quantize `quantized_ops` are concerned, where it is given. `figure` was measured as `source` says: machine or
    publication, version, date. `about` says what it is a figure of: the `arithmetic` of a file, which the
    shares of its MACs answer, its `time`, which one beside that of the precision `against` answers, or its `outputs`,
    which only the device can answer."""

    precisions: tuple[str, ...]
    reason: str
    figure: str
    source: str
    about: Literal["arithmetic", "time", "outputs"]
    against: str = "fp32"
    backbones: tuple[str, ...] = ANY
    providers: tuple[str, ...] = ANY
    quantized_ops: str | None = None

    def __str__(self) -> str:
        return f"{self.reason}: {self.figure} ({self.source})"


@dataclass(frozen=True)
class Target:
    """A runtime that plans may name. What needs heavy libraries is named as `"module:attribute"`.

    Attributes:
        name: In space files and plans.
        title: As its makers write it.
        place: Where it stands in lists; the first is the default.
        suffix: Of the file that it opens.
        exporter: The class that writes its files (`vitsearch.export.base.Exporter`).
        example: How a model is run without vitsearch (`vitsearch.export.bundle_example.BundleExample`).
        metadata: What puts metadata into a file, in place; it takes a path, and names with texts.
        shares: What counts the MACs of a file by precision (`vitsearch.export.precision_shares`): it takes a path, a
            deployment with all options, and the file as this machine has loaded it or None. None: nothing shows them.
        structure: What describes all that the cost of a file depends on (`vitsearch.export.structure`), given its
            path; None where it is not read, and files with other weights count as other graphs.
        on_device: The agent's runtimes that open its files, the preferred one first.
        precisions: Those of its files.
        providers: What computes, the default first, as a space file and a plan name it -> the name that the runtime on
            the device has for it.
        starts_from: What its files are converted from.
        refused: Precisions that it cannot run, with the reason.
        unbuilt: Providers that it has and nothing here reaches, with the reason.
        refused_on: Provider -> precisions that it alone cannot run, with the reason.
        open_batch: Its files may take any number of images in a run.
        threaded: The providers that compute on as many threads as they are given; others choose themselves.
        paired: The providers whose measurements run beside reference models, which correct for the load.
        quantized_ops: A precision that computes in int8 -> the layers that its files may quantize, the default first:
            `linear` layers, or `all` (convolutions too).
        npus: The providers that compile a file for one chip.
        lowering_cpu_s: The CPU-seconds that making a file takes, the least and the most that was measured, where they
            are too many to make one for each plan that is screened (see `vitsearch.core.precisions.lowers_slowly`).
        same_graph: Precision -> the one whose graph it shares; only the numbers differ, so both are one measurement.
        is_versioned: Its files have another form for each of its versions, and for sparse weights.
        fused: Where it reads fused operators of its own; None where it has none.
        domain: The domain of ONNX operators that it alone has; None without one.
        runs_here: This machine runs its files. Those of the others are judged by an ONNX file that is not kept.
        is_quick: Its files are written in seconds, so it is tried where nobody names a runtime.
        converters: Name -> a tool in an environment of its own that its files need.
        known_bad: Combinations that `check` and `plan` warn of.
    """

    name: str
    title: str
    place: int
    suffix: str
    exporter: str
    example: str
    metadata: str
    on_device: tuple[AgentRuntime, ...]
    precisions: tuple[str, ...]
    providers: Mapping[str, str]
    starts_from: Literal["onnx", "torch"]
    shares: str | None = None
    structure: str | None = None
    refused: Mapping[str, str] = field(default_factory=dict)
    unbuilt: Mapping[str, str] = field(default_factory=dict)
    refused_on: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    open_batch: bool = False
    threaded: frozenset[str] = frozenset({"cpu"})
    paired: frozenset[str] = frozenset({"cpu"})
    quantized_ops: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    npus: Mapping[str, Npu] = field(default_factory=dict)
    lowering_cpu_s: tuple[int, int] | None = None
    same_graph: Mapping[str, str] = field(default_factory=dict)
    is_versioned: bool = False
    fused: FusedOperators | None = None
    domain: str | None = None
    runs_here: bool = True
    is_quick: bool = False
    converters: Mapping[str, Converter] = field(default_factory=dict)
    known_bad: tuple[KnownBad, ...] = ()


class _Targets(Mapping[str, Target]):
    """The targets by name, in their places. Their folders are read when they are first asked for."""

    @cached_property
    def _declared(self) -> Mapping[str, Target]:
        folders = pkgutil.iter_modules(import_module("vitsearch.targets").__path__)
        ours = {folder.name: f"vitsearch.targets.{folder.name}:TARGET" for folder in folders}
        registry: Registry[Target] = Registry("target", ours, "vitsearch.targets")
        targets = sorted(map(registry.get, registry.names()), key=lambda target: target.place)
        return {target.name: target for target in targets}

    def __getitem__(self, name: str) -> Target:
        return self._declared[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)


TARGETS: Mapping[str, Target] = _Targets()


def quick_runtimes() -> tuple[str, ...]:
    """The runtimes that are tried where nobody names any: their files are written in seconds."""
    return tuple(target.name for target in TARGETS.values() if target.is_quick)


def converters() -> dict[str, Converter]:
    """The tools that have an environment of their own, by name."""
    found = {name: tool for target in TARGETS.values() for name, tool in target.converters.items()}
    return dict(sorted(found.items()))


def providers() -> tuple[str, ...]:
    """What computes in any of the runtimes."""
    return tuple(dict.fromkeys(name for target in TARGETS.values() for name in target.providers))


def default_runtime() -> str:
    """The runtime that a plan has when nothing names one."""
    return next(iter(TARGETS))
