"""The files of a bundle, by their names. Nothing here depends on the time, the machine or the folder."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitsearch.backbones.builtin import BUILTIN
from vitsearch.core.figures import Figure, Metrics
from vitsearch.data.fashion_mnist import LICENSE_ASSET
from vitsearch.ship import examples
from vitsearch.ship.bundled_model import BundledModel
from vitsearch.ship.card import card
from vitsearch.tasks import CLASSIFICATION
from vitsearch_agent.artifacts import model_files
from vitsearch_agent.base import single_file
from vitsearch_agent.verify import bundle
from vitsearch_agent.wire.metrics import DEVICE_METRICS
from vitsearch_agent.wire.protocol import Measurement

File = bytes | Path
"""The content of a file, or the file that is copied."""
_FASHION_MNIST = {*BUILTIN, "builtin:fashion-mnist", "builtin:fashion-mnist-14k", "builtin:fashion-mosaic"}
"""Data and backbones whose licence asks for its notice."""
PICTURES = 3
"""Images of the bundle that are there as PNG too, so that its user can run the example at once."""
OF_A_MOMENT = ("job_id", "started_at", "queue_s", "attempts")
"""Fields of a measurement that say when it was taken, and not what it found."""


def contents(model: BundledModel, with_images: bool) -> dict[str, File]:
    """Every file of the bundle of a model."""
    files: dict[str, File] = {name: Path(path) for name, path in model_files(str(model.path)).items()}
    files |= {
        bundle.MANIFEST: _json(manifest(model, with_images)),
        bundle.PREPROCESSING: _json(model.preprocessing),
        "preprocessing.py": (resources.files("vitsearch_agent") / "verify" / "preprocessing.py").read_bytes(),
        "plan.json": _json(model.final.plan.to_json() | {"weights": model.weights.text}),
        "measurements.json": _json(measurements(model)),
        "provenance.json": _json(provenance(model)),
        "README.md": card(model, with_images).encode(),
        single_file.NAME: single_file.single_file(),
    }
    if model.contexts:
        files |= {context.name: context.context.path for context in model.contexts}
        files["contexts.json"] = _json([context.to_json() for context in model.contexts])
    if model.task.labels in ("needed", "masks"):
        files[bundle.LABELS] = _json(model.data["class_names"])
    if _FASHION_MNIST & {model.source["source"], model.final.plan.backbone}:
        files[LICENSE_ASSET.name] = LICENSE_ASSET
    texts = {
        "example.py": examples.python_example(model),
        "requirements.txt": "".join(f"{line}\n" for line in examples.packages(model)),
    }
    files |= {name: text.encode() for name, text in texts.items() if text}
    files |= examples.example_of(model).files(model)
    if with_images:
        files[bundle.IMAGES] = model.images
        files |= _answers(model)
        files |= _pictures(model.images)
    return files | {bundle.CHECKSUMS: _checksums(files)}


def _answers(model: BundledModel) -> dict[str, File]:
    """What the images of the bundle are judged by, and what the model gave for them."""
    if model.task == CLASSIFICATION:
        predicted = np.load(model.outputs).argmax(1)
        return {bundle.TRUTH: _array(model.shipped.labels or ()), bundle.PREDICTIONS: _array(predicted)}
    if model.masks is not None:
        return {bundle.TRUTH: model.masks, bundle.PREDICTIONS: model.outputs}
    files: dict[str, File] = {bundle.OUTPUTS: model.outputs}
    return files if model.reference is None else files | {bundle.REFERENCE: model.reference}


def _pictures(images: Path) -> dict[str, File]:
    """A few images of the bundle as files that the examples take: from all of it, as the classes may be in order."""
    stored = np.load(images, mmap_mode="r")
    files: dict[str, File] = {}
    for number in range(min(PICTURES, len(stored))):
        pixels, stream = stored[number * len(stored) // PICTURES], io.BytesIO()
        Image.fromarray(pixels.squeeze(2) if pixels.shape[2] == 1 else pixels).save(stream, "png")
        files[f"images/{number}.png"] = stream.getvalue()
    return files


def manifest(model: BundledModel, with_images: bool) -> dict[str, Any]:
    """What `vitsearch verify` reads (`vitsearch_agent.verify.bundle.Manifest`)."""
    measured, shipped, times = model.confirmation, model.shipped, model.reference_times
    return {
        "schema": bundle.SCHEMA,
        "name": model.name,
        "model": next(iter(model_files(str(model.path)))),
        "artifact_key": model.artifact.artifact_key,
        "runtime": model.job.runtime,
        "runtime_version": measured.runtime_version,
        "options": model.job.options,
        "batch": shipped.batch,
        "protocol": measured.protocol.to_json(),
        "task": {"kind": model.task.kind},
        **_qualities(model, with_images),
        "figures": _judged(model.metrics),
        "reference_times": None if times is None else times.to_json(),
        "device": {
            "name": model.device["name"],
            "kind": model.device["kind"],
            "environment": model.device["fingerprint"],
        },
    }


def _judged(metrics: Metrics) -> dict[str, Any]:
    """The figures that are measured again when a bundle is verified (`verify.checks` of the agent)."""
    return {
        name: _figure(figure)
        for name, figure in sorted(metrics.figures.items())
        if name in DEVICE_METRICS and not DEVICE_METRICS[name].is_raw and figure.value is not None
    }


def _qualities(model: BundledModel, with_images: bool) -> dict[str, Any]:
    """What `verify` judges outputs by: counted images of a classifier, figures of any other task."""
    judged, images = model.judged, model.images_in_bundle
    if model.task == CLASSIFICATION:
        first = model.task.metrics[0].name
        return {
            "accuracy": _counted(judged.split, judged.n, judged.metrics, first),
            "images": _counted(judged.split, images, model.shipped.on_images, first) if with_images else None,
        }
    return {
        "qualities": {
            "split": judged.split,
            "on_split": _evaluated(judged.metrics, judged.n),
            "images": images if with_images else None,
            "on_images": _evaluated(model.shipped.on_images, images) if with_images else {},
        }
    }


def _counted(split: str, n: int, metrics: Metrics, name: str) -> dict[str, Any]:
    """How many images of a split a classifier has right."""
    return {"split": split, "n": n, "correct": round((metrics.value(name) or 0.0) * n)}


def _evaluated(metrics: Metrics, n: int) -> dict[str, Any]:
    known = {name: figure for name, figure in metrics.figures.items() if figure.value is not None}
    return {name: _figure(figure) | {"n": n} for name, figure in known.items()}


def measurements(model: BundledModel) -> dict[str, Any]:
    """The metrics of the task and figures with their intervals, and every measurement with its conditions."""
    return {
        "qualities": {
            result.split: {
                "n": result.n,
                **result.metrics.to_json(),
                **result.tally.details(),
            }
            for result in model.results
        },
        "labelled_by": model.labelled_by,
        **model.metrics.to_json(),
        "device": model.device,
        "measurements": [_lasting(measurement) for measurement in model.measurements],
    }


def _figure(figure: Figure) -> dict[str, float | None]:
    return {"value": figure.value, "low": figure.low, "high": figure.high}


def _lasting(measurement: Measurement) -> dict[str, Any]:
    return {key: value for key, value in measurement.to_json().items() if key not in OF_A_MOMENT}


def provenance(model: BundledModel) -> dict[str, Any]:
    """What made the model: weights, data, software, with their digests and licences."""
    plan, final, artifact, weights = model.final.plan, model.final, model.artifact, model.weights
    file = {} if weights.file is None else {"file": weights.file, "sha256": weights.sha256}
    return {
        "study": model.study,
        "trial": model.trial,
        "artifact_key": artifact.artifact_key,
        "weights_key": final.keys.weights_key,
        "graph_key": final.keys.graph_key,
        "model": {
            "sha256": artifact.sha256,
            "size_bytes": artifact.size_bytes,
            "precisions": artifact.detail["shares"],
        },
        "longer_training": None
        if final.epochs is None
        else {
            "epochs": final.epochs,
            "metric": final.metric,
            "after": final.after,
            "before": final.before,
            "shipped": final.is_longer,
        },
        "components": [
            {
                "type": "weights",
                "name": plan.backbone,
                "source": weights.kind,
                "licence": model.shipped.licences["weights"] or "unknown",
                **file,
            },
            {
                "type": "data",
                "name": model.data_source,
                "fingerprint": model.data["fingerprint"],
                "splits": model.data["splits"]
                | {model.shipped.split: {"images": model.shipped.n, "sha256": model.shipped.sha256}},
                "licence": model.shipped.licences["data"] or "unknown",
            },
            *(
                {"type": "software", "name": name, "version": version}
                for name, version in sorted(model.versions.items())
            ),
            {
                "type": "software",
                "name": model.job.runtime,
                "version": model.confirmation.runtime_version,
                "of": "device",
            },
        ],
    }


def _checksums(files: Mapping[str, File]) -> bytes:
    """As `sha256sum -c` reads them."""
    lines = [f"{_sha256(content)}  {name}\n" for name, content in sorted(files.items())]
    return "".join(lines).encode()


def _sha256(content: File) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _json(value: object) -> bytes:
    """ASCII, in which characters that nobody sees are escapes; `json` leaves DEL as it is."""
    return (json.dumps(value, indent=2, sort_keys=True).replace("\x7f", "\\u007f") + "\n").encode()


def _array(values: tuple[int, ...]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, np.array(values, "<i8"))
    return stream.getvalue()
