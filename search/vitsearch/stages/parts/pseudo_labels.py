"""Labels of images that have none: the classes that an ONNX network gives them in fp32, by onnxruntime."""

from __future__ import annotations

import io
from dataclasses import asdict
from pathlib import Path

import numpy as np

from vitsearch import backbones
from vitsearch.core.preprocessing import NONE
from vitsearch.data.arrays import Floats, Labels
from vitsearch.data.image_data import ImageData
from vitsearch.data.splits import Split
from vitsearch.data.store import write_to_cache
from vitsearch.errors import NetworkError
from vitsearch.stages.job import PseudoLabels
from vitsearch.training import inference
from vitsearch_agent.base.canonical_json import digest


def labelled(images: ImageData, labels: PseudoLabels, cache: Path) -> tuple[ImageData, Floats]:
    """Label validation and test images.

    Args:
        images: Without labels.
        labels: The network that labels them.
        cache: The folder in which its outputs are kept, for the other processes of this machine.

    Returns:
        The images with labels, and the logits (N, classes) of the validation images.

    Raises:
        NetworkError: The file of the network is gone, or another one than the study has.
        PlanError: The network does not take such images.
    """
    from vitsearch.backbones.onnx_family import architecture_of, own_class_names  # onnx: only where there is a file

    network = labels.network
    if not Path(network.path).is_file():
        raise NetworkError(
            f"{network.name}: {network.path} does not exist any more, and its outputs are the labels of these images"
        )
    class_names = own_class_names(network)
    preprocessing = labels.preprocessing.over(NONE, images.channels)
    origin = {"architecture": architecture_of(network), "preprocessing": asdict(preprocessing)}
    spec = backbones.ModelSpec(
        network.name,
        f"file:{network.path}",
        network.resolution,
        len(class_names),
        images.channels,
        class_names=class_names,
    )

    def logits_of(split: Split) -> Floats:
        file = cache / f"outputs-{digest(origin | {'images': split.sha256})}.npy"
        if not file.is_file():
            model = backbones.find(network.name, (network,)).build(spec).model
            logits = inference.predict_logits(model, split.images, network.resolution, preprocessing)
            stream = io.BytesIO()
            np.save(stream, logits)
            write_to_cache(file, stream.getvalue())
        return np.asarray(np.load(file), np.float32)

    def classes_of(split: Split) -> Labels:
        classes: Labels = logits_of(split).argmax(1)
        return classes

    return images.labelled(class_names, classes_of, origin), logits_of(images.validation)


def mean_cosine(logits: Floats, own: Floats) -> float:
    """The mean cosine of logits (N, classes) to the network's own."""
    first, second = logits.astype(np.float64), own.astype(np.float64)
    lengths = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    return float(((first * second).sum(1) / np.maximum(lengths, np.finfo(np.float64).tiny)).mean())
