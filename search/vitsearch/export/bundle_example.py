"""How a shipped model is run without vitsearch: what each runtime says of it, in `vitsearch.targets.NAME.example`.

All examples build the graph that was judged and measured: the shapes and options of the agent's runtimes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vitsearch.core.plan import Deployment, Plan
from vitsearch.core.record import Shipped
from vitsearch.export.device_jobs import DeviceJob
from vitsearch.tasks import Task
from vitsearch_agent import runtimes
from vitsearch_agent.wire.protocol import Measurement


class _Final(Protocol):
    @property
    def plan(self) -> Plan: ...


class MeasuredModel(Protocol):
    """What an example needs of a model of a bundle (`vitsearch.ship.bundled_model.BundledModel`)."""

    @property
    def path(self) -> Path: ...

    @property
    def deployment(self) -> Deployment: ...

    @property
    def job(self) -> DeviceJob: ...

    @property
    def confirmation(self) -> Measurement: ...

    @property
    def final(self) -> _Final: ...

    @property
    def shipped(self) -> Shipped: ...

    @property
    def task(self) -> Task: ...

    @property
    def data(self) -> Mapping[str, Any]: ...

    @property
    def preprocessing(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True)
class PythonExample:
    """The lines that import a runtime and open the model, the expression of the outputs for `images`, and the
    packages that it needs."""

    imports: str
    open: str
    run: str
    packages: tuple[str, ...]


class BundleExample:
    """What a runtime says of its models in a bundle."""

    def python(self, model: MeasuredModel) -> PythonExample | None:
        """The example in Python; None where its interface there would not run the model as it was measured."""
        return None

    def why_no_python(self, model: MeasuredModel) -> str:
        """Why there is none, in one sentence."""
        return f"{model.job.runtime} has no interface for Python in which it would run as it was measured."

    def tool(self, model: MeasuredModel) -> tuple[str, ...] | None:
        """The command line of the runtime's own tool for the model, in its folder; None where there is no such tool."""
        return None

    def files(self, model: MeasuredModel) -> dict[str, bytes]:
        """Further files of the bundle, by name."""
        return {}

    def notes(self, model: MeasuredModel) -> tuple[tuple[str, ...], ...]:
        """What the card says of running it, beside the example: paragraphs of lines."""
        return ()


def threads(model: MeasuredModel) -> int:
    """The number of threads of the measurement."""
    return model.confirmation.protocol.threads


def batch(model: MeasuredModel) -> int:
    """The number of images of a run."""
    return model.deployment.batch or model.shipped.batch


def shape(model: MeasuredModel) -> tuple[int, ...]:
    """The shape of the images of a run."""
    return (batch(model), model.data["channels"], *model.final.plan.resolution.sides)


def options(model: MeasuredModel) -> Mapping[str, Any]:
    """The options of the agent's runtime, all of them."""
    return runtimes.create(model.job.runtime).check_options(model.job.options)


def pinned(package: str, model: MeasuredModel, runtime: str | None = None) -> str:
    """The package in the version that measured the model, if its runtime did. The version is what a device says."""
    version = model.confirmation.runtime_version
    is_known = model.job.runtime == (runtime or package) and re.fullmatch(r"[0-9A-Za-z.+!_-]+", version) is not None
    return f"{package}=={version}" if is_known else package
