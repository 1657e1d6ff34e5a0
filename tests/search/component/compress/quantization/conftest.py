"""The unpruned model as a file, and images to calibrate it with."""

from __future__ import annotations

import pytest

from vitsearch.export.graph.onnx_file import write_onnx


@pytest.fixture(scope="module")
def plain(base, tmp_path_factory):
    path = tmp_path_factory.mktemp("plain") / "model.onnx"
    write_onnx(base.model(), (1, 1, 28, 28), path)
    return path


@pytest.fixture(scope="module")
def images(base):
    """32 training images for calibration."""
    return base.calibration[0][:32].numpy()
