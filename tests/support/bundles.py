"""Bundles as `vitsearch ship` writes them, for tests of the agent."""

import hashlib
import json
import os

from vitsearch_agent.base.onnx_writer import Value, model, node
from vitsearch_agent.wire.measure_protocol import ONE_PROCESS

PROTOCOL = ONE_PROCESS._replace(id="test-1", warmup_min_runs=1, warmup_min_s=0.0, min_runs=11, min_s=0.0)
PREPROCESSING = {
    "image_size": 2,
    "channels": 1,
    "crop_size": 2,
    "interpolation": "bilinear",
    "resolution": 2,
    "mean": [0.0],
    "std": [1.0],
}
LABELS = ["north west", "north east", "south west", "south east"]
FLATTEN = model(
    [node("Flatten", ["images"], "logits")],
    [Value("images", "float32", (1, 1, 2, 2))],
    [Value("logits", "float32", (1, 4))],
    13,
    8,
)
"""A model whose logits are the four pixels of its image."""


def manifest(**changes):
    """The JSON of a bundle of FLATTEN."""
    figure = {"value": 1.0, "low": 0.9, "high": 1.1}
    plain = {
        "schema": 3,
        "name": "tiny-trial-1",
        "model": "model.onnx",
        "artifact_key": "ab" * 32,
        "runtime": "onnxruntime",
        "runtime_version": "1.20.0",
        "options": {"provider": "CPUExecutionProvider"},
        "batch": 1,
        "protocol": PROTOCOL.to_json(),
        "task": {"kind": "classification"},
        "accuracy": {"split": "test", "n": 100, "correct": 90},
        "images": {"split": "test", "n": 4, "correct": 4},
        "figures": {"latency_ms_p50": figure, "peak_memory_mb": {"value": 5.0, "low": None, "high": None}},
        "reference_times": None,
        "device": {"name": "local", "kind": "physical", "environment": {"board": "b", "cpu": "c"}},
    }
    return dict(plain, **changes)


QUALITY = {"value": 0.9, "low": 0.8, "high": 1.0, "n": 100}
QUALITIES = {
    "split": "test",
    "on_split": {"cosine": QUALITY, "neighbours": QUALITY},
    "images": 4,
    "on_images": {"cosine": dict(QUALITY, n=4), "neighbours": dict(QUALITY, n=4)},
}


def manifest_of(kind, **changes):
    """The JSON of a bundle of FLATTEN for another task than classification."""
    plain = manifest(task={"kind": kind}, qualities=QUALITIES)
    del plain["accuracy"], plain["images"]
    return dict(plain, **changes)


def write_bundle(folder, described, files=()):
    """Write a bundle with its checksums; `files` are further ones, name -> bytes."""
    contents = {
        "bundle.json": json.dumps(described).encode(),
        "preprocessing.json": json.dumps(PREPROCESSING).encode(),
        "labels.json": json.dumps(LABELS).encode(),
        "model.onnx": FLATTEN,
    }
    contents.update(files)
    for name, content in contents.items():
        path = os.path.join(str(folder), *name.split("/"))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as stream:
            stream.write(content)
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in contents.items()]
    with open(os.path.join(str(folder), "SHA256SUMS"), "w") as stream:
        stream.writelines(sorted(lines))
    return str(folder)


def saved(array):
    """The bytes of a .npy file."""
    import io

    import numpy

    stream = io.BytesIO()
    numpy.save(stream, array)
    return stream.getvalue()


def embedding_files():
    """The files of the images for FLATTEN whose pixels are their embeddings, and of a reference that is the same."""
    import numpy

    files = image_files()
    images = numpy.full((4, 4), 10, numpy.uint8)
    images[numpy.arange(4), numpy.arange(4)] = 200
    outputs = saved((images / numpy.float32(255)).astype("<f4"))
    return {
        "images/images.npy": files["images/images.npy"],
        "images/reference.npy": outputs,
        "images/outputs.npy": outputs,
    }


def image_files():
    """The files of four images for FLATTEN, each brightest where its label says, and of what it gave them."""
    import numpy

    images = numpy.full((4, 2, 2, 1), 10, numpy.uint8)
    labels = numpy.arange(4, dtype="<i8")
    images.reshape(4, 4)[labels, labels] = 200
    arrays = {"images.npy": images, "labels.npy": labels, "predictions.npy": labels}
    return {"images/" + name: saved(array) for name, array in arrays.items()}
