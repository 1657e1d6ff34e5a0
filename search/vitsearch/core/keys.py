"""The four keys under which the results of a resolved plan are stored: sha256 of canonical JSON.

    key            made from                                                   names
    weights_key    indices, starting weights, data, teacher, recipe, seed,     trainings and rungs
                   images of the closed-form steps, resolutions and
                   preprocessing of both
    qat_key        a training and its rung, settings, calibration              trainings for static int8
    graph_key      counts, resolution, precision, runtime, batch, threads,     measurements
                   options, opset, exporter
    artifact_key   weights_key, graph_key with one thread, and the             artifacts, accuracies
                   calibration

All keys of a plan are made at once, where it is resolved (`trial_keys`), and carried on from there. A key
contains no path and no library version; contents enter as digests. Raise `SCHEMA` by hand when the meaning of
a key changes. Golden values: `tests/search/unit/core/test_keys.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vitsearch.core.image_size import ImageSize
from vitsearch.core.onnx_exporters import TORCHSCRIPT, OnnxExporter
from vitsearch.core.plan import Deployment, Plan, QuantizationAware
from vitsearch.core.precisions import TRAINED, is_versioned, reads_fused
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.core.resolve import ResolvedPlan
from vitsearch_agent.base.canonical_json import digest

SCHEMA = 4


@dataclass(frozen=True)
class DataIdentity:
    """The properties of a data set that keys depend on, and the digest of a task other than classification with the
    reference of the study; `classes` is 0 for a task that has none."""

    fingerprint: str
    classes: int
    channels: int
    task: str = ""

    def in_keys(self) -> dict[str, Any]:
        """What enters keys of what depends on the images."""
        return {name: value for name, value in asdict(self).items() if name != "task" or value}

    @property
    def judged_by(self) -> str:
        """The digest of the images and of what outputs are judged by."""
        return digest({"data": self.fingerprint, "task": self.task}) if self.task else self.fingerprint


@dataclass(frozen=True)
class UnprunedWeights:
    """An unpruned model: the digest of its weights, what it sees of the images, and the architecture of a network
    whose name does not stand for it."""

    weights: str
    resolution: ImageSize
    preprocessing: Preprocessing
    architecture: str = ""

    def in_keys(self) -> dict[str, Any]:
        """What enters keys of what depends on the model."""
        values = asdict(self) | {"resolution": self.resolution.to_json()}
        return {name: value for name, value in values.items() if name != "architecture" or value}


@dataclass(frozen=True)
class Origin:
    """Where a training starts. `base` is what is compressed and compared with; it teaches where `teacher` is None.

    `closed_form` is the digest of the steps that make rung 0; None when there are none.
    """

    base: UnprunedWeights
    teacher: UnprunedWeights | None = None
    closed_form: str | None = None


@dataclass(frozen=True)
class ExportTarget:
    """How the files of a plan are made beside what its deployment says: `opset` and `version` follow from the
    runtime on the device, `exporter` from the backbone. `calibration` is the digest of the images of static int8, None
    where no file depends on any; `qat` are the settings of a training for int8, `architecture` is the digest of a
    network whose name does not stand for it."""

    opset: int
    version: str | None
    calibration: str | None
    qat: QuantizationAware
    exporter: OnnxExporter = TORCHSCRIPT
    architecture: str = ""


@dataclass(frozen=True)
class ExportKeys:
    """`weights` are those that are exported, perhaps trained further for int8; `artifact` is their file."""

    weights: str
    artifact: str


@dataclass(frozen=True)
class TrialKeys:
    """The keys of a resolved plan. `screened` is the file of its graph with the starting weights, `exports` what is
    exported after each rung of its recipe."""

    weights: str
    graph: str
    screened: str
    exports: Mapping[int, ExportKeys]


def trial_keys(
    resolved: ResolvedPlan, plan: Plan, origin: Origin, data: DataIdentity, target: ExportTarget
) -> TrialKeys:
    """Every key of a plan, from all that its results depend on."""
    weights = weights_key(resolved, plan, origin, data)
    deployment = plan.deployment
    made_by = target.opset, target.version, target.exporter, target.architecture
    graph = graph_key(resolved, deployment, data, *made_by)
    file = graph_key(resolved, deployment.as_exported(), data, *made_by)
    screened = artifact_key(origin.base.weights, 0, file, target.calibration)
    is_trained_for_int8 = deployment.precision in TRAINED

    def export(rung: int) -> ExportKeys:
        exported = weights
        if rung and is_trained_for_int8:
            exported = qat_key(weights, rung, target.qat, target.calibration or "")
        return ExportKeys(exported, artifact_key(exported, rung, file, target.calibration))

    return TrialKeys(weights, graph, screened, {rung: export(rung) for rung in {0, *plan.recipe.rungs}})


def weights_key(resolved: ResolvedPlan, plan: Plan, origin: Origin, data: DataIdentity) -> str:
    """The key of a training. The precision does not enter, nor what only a distillation looks at where there is
    none."""
    is_distilled = plan.distillation != "none"
    unused = () if is_distilled else ("temperature", "distillation_weight")
    recipe = {name: value for name, value in plan.recipe.in_keys().items() if name not in unused}
    return digest(
        {
            "schema": SCHEMA,
            "key": "weights",
            "structure": resolved.kept_indices(),
            "closed_form": origin.closed_form,
            "base": origin.base.in_keys(),
            "teacher": origin.teacher.in_keys() if origin.teacher and is_distilled else None,
            "distillation": plan.distillation,
            "recipe": recipe,
            "data": data.in_keys(),
        }
    )


def qat_key(weights: str, rung: int, settings: QuantizationAware, calibration: str) -> str:
    """The key of a quantization-aware training that starts from the float training `weights` at `rung`.

    `calibration` is the digest of the images from which the ranges start. All deployments that need this training
    share it.
    """
    return digest(
        {
            "schema": SCHEMA,
            "key": "qat",
            "weights": weights,
            "rung": rung,
            "settings": asdict(settings),
            "calibration": calibration,
        }
    )


def graph_key(
    resolved: ResolvedPlan,
    deployment: Deployment,
    data: DataIdentity,
    opset: int,
    version: str | None = None,
    exporter: OnnxExporter = TORCHSCRIPT,
    architecture: str = "",
) -> str:
    """The key of a measurement. Weights do not enter, because the cost of a graph does not depend on them.

    `version` is that of the runtime on the device; it enters where the form of the file depends on it, or as
    the fused operators that it has. So do the quantized layers, where a file can have one of several
    sets of them, the `exporter` of the few architectures that need another one, the `architecture` of networks whose
    name does not stand for it, more than one thread, and the streams that the space names.
    """
    ops = deployment.quantized_ops
    is_fused = reads_fused(deployment.runtime, deployment.provider, deployment.precision, version)
    return digest(
        {
            "schema": SCHEMA,
            "key": "graph",
            "shape": resolved.kept_counts(deployment.runtime),
            "classes": data.classes,
            "channels": data.channels,
            "runtime": deployment.runtime,
            "provider": deployment.provider,
            "batch": deployment.batch,
            "options": dict(deployment.options),
            "opset": opset,
            "version": version if is_versioned(deployment.runtime) else None,
        }
        | ({} if ops is None else {"quantized_ops": ops})
        | ({} if is_fused else {"fused": False})
        | ({} if exporter == TORCHSCRIPT else {"exporter": exporter.name})
        | ({"architecture": architecture} if architecture else {})
        | ({"task": data.task} if data.task else {})
        | ({} if deployment.threads == 1 else {"threads": deployment.threads})
        | ({} if deployment.streams is None else {"streams": deployment.streams})
    )


def artifact_key(weights: str, rung: int, graph: str, calibration: str | None) -> str:
    """The key of an exported file: trained weights, graph (`trial_keys` gives it the one of a single thread, as threads
    and streams do not change a file) and, for static int8, the digest of the calibration."""
    return digest(
        {
            "schema": SCHEMA,
            "key": "artifact",
            "weights": weights,
            "rung": rung,
            "graph": graph,
            "calibration": calibration,
        }
    )
