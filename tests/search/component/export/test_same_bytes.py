"""One model is one file: its bytes do not depend on what differs between two processes."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from support import PYTHON_PATH
from support.marks import long
from vitsearch.core.image_size import ImageSize
from vitsearch.core.plan import Deployment
from vitsearch.core.precisions import default_provider
from vitsearch.export import EXPORTERS, ExportTask
from vitsearch_agent.artifacts import model_files


def write(backbone: str, runtime: str, precision: str, folder: Path) -> None:
    """Export a built-in base and print the digest of its files."""
    from vitsearch import backbones

    family = backbones.find(backbone)
    model = family.build(backbones.ModelSpec(backbone, "builtin", ImageSize.square(28), 10, 1)).model.eval()
    images = np.random.default_rng(0).standard_normal((4, 1, 28, 28)).astype(np.float32)
    deployment = Deployment("local", runtime, default_provider(runtime), precision, 1)
    file = EXPORTERS.get(runtime)().export(model, ExportTask(family.family, deployment, images), folder)
    files = sorted(model_files(str(file.path)).items())
    print(*(hashlib.sha256(Path(path).read_bytes()).hexdigest() for _, path in files))


@pytest.mark.long
@pytest.mark.parametrize(
    ("backbone", "runtime", "precision"),
    [
        ("vit_fmnist_p4", "onnxruntime", "fp32"),
        *long(
            ("vit_fmnist_p4", "onnxruntime", "int8_ptq"),
            ("vit_fmnist_p4", "openvino", "int8_ptq"),
            ("vit_fmnist_p4", "tensorrt", "fp16"),
            ("vit_fmnist_p4", "litert", "int8_ptq"),
            ("vit_fmnist_p4", "executorch", "int8_ptq"),
            ("vit_fmnist_p4", "coreml", "fp16"),
            ("efficientvit_fmnist", "onnxruntime", "int8_ptq"),
            ("mobilevit_fmnist", "openvino", "int8_ptq"),
        ),
    ],
)
def test_a_file_does_not_depend_on_the_seed_of_hashes(backbone, runtime, precision, tmp_path):
    if (missing := EXPORTERS.get(runtime)().missing()) is not None:
        pytest.skip(missing)
    running = []
    for seed in ("1", "2"):
        (folder := tmp_path / seed).mkdir()
        command = [sys.executable, "-P", __file__, backbone, runtime, precision, str(folder)]
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": PYTHON_PATH}
        running.append(subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True))
    first, second = (process.communicate()[0] for process in running)
    assert [process.returncode for process in running] == [0, 0]
    assert first == second


if __name__ == "__main__":
    write(*sys.argv[1:4], Path(sys.argv[4]))
