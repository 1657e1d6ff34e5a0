"""Print what zero weights cost and gain on a base that ships with vitsearch, as a Markdown table.

The columns are accuracy of the exported file (nothing is trained), sizes, and CPU time in onnxruntime.

python benchmarks/sparsity.py [vit_fmnist_p4 | efficientvit_fmnist | mobilevit_fmnist]
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from quantization import MEAN, STD, Data
from timing import ROUNDS, cpu_ms
from torch import nn

from vitsearch import backbones
from vitsearch.backbones import ModelSpec
from vitsearch.compress import batch_norms, sparse_file, sparsity
from vitsearch.compress.quantization import quantize
from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data.tensors import to_tensor
from vitsearch.export.graph.onnx_file import write_onnx

KINDS = ("none", "50%", "75%", "2:4")
HEAD = ("sparsity", "magnitude", "fitted", "fitted, int8_ptq", "CPU ms", "MB", "MB gzip", "int8: MB", "MB gzip")
RECALIBRATION_IMAGES, BATCH = 2048, 256


class Table:
    """The rows of one model; all files are kept, so that they are timed in interleaved rounds."""

    def __init__(self, name: str, folder: Path) -> None:
        self.data, self.folder = Data(), folder
        self.model = backbones.find(name).build(ModelSpec(name, "builtin", ImageSize.square(28), 10, 1)).model
        chosen = np.random.default_rng(0).permutation(len(self.data.train))[:RECALIBRATION_IMAGES]
        self.images = to_tensor(self.data.train[chosen], ImageSize.square(28), Preprocessing(MEAN, STD))

    def print(self, rounds: int) -> None:
        rows, files = {}, {}
        for kind in KINDS:
            plain, fitted = copy.deepcopy(self.model), copy.deepcopy(self.model)
            if kind != sparsity.NONE:
                sparsity.magnitude(plain, kind)
                sparsity.fit(fitted, kind, self.images[: sparsity.IMAGES])
                batch_norms.recalibrate(fitted, torch.split(self.images, BATCH))
            files[kind] = self.file(fitted, kind)
            small = self.folder / f"{kind.replace(':', 'of')}.int8.onnx"
            quantize.quantize(files[kind], small, "int8_ptq", self.images[:32].numpy())
            accuracies = [self.data.accuracy(path) for path in (self.file(plain, "plain"), files[kind], small)]
            sizes = [size / 1e6 for path in (files[kind], small) for size in sizes_of(path)]
            rows[kind] = [f"{value:.4f}" for value in accuracies], [f"{value:.2f}" for value in sizes]
        cost = cpu_ms(files, rounds)
        lines = [(kind, *seen, f"{cost[kind]:.2f}", *sizes) for kind, (seen, sizes) in rows.items()]
        for cells in (HEAD, ["---"] * len(HEAD), *lines):
            print("| " + " | ".join(cells) + " |")

    def file(self, model: nn.Module, name: str) -> Path:
        path = self.folder / f"{name.replace(':', 'of')}.onnx"
        write_onnx(model, (1, 1, 28, 28), path)
        return path


def sizes_of(path: Path) -> tuple[int, int]:
    return path.stat().st_size, sparse_file.compressed_bytes(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("backbone", nargs="?", default="vit_fmnist_p4")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        Table(options.backbone, Path(folder)).print(options.rounds)


if __name__ == "__main__":
    main()
