"""The estimate that `check` prints: exact sizes, a time from a sample, and the problems of the data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec, load
from vitsearch.data.estimate import SAMPLE, DataEstimate, estimate
from vitsearch.errors import DataError


def photos(root: Path, count: int, size=(320, 240)) -> Path:
    generator = np.random.default_rng(0)
    for number in range(count):
        path = root / ("bolt", "nut")[number % 2] / f"{number:03}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)
    return root


def test_a_folder_is_estimated_from_a_sample(tmp_path, monkeypatch):
    """Each image takes half a second of CPU time."""
    decoded = []
    white = np.full((64, 64, 3), 255, np.uint8)
    monkeypatch.setattr("vitsearch.data.estimate.decode_image", lambda *image: decoded.append(image) or white)
    monkeypatch.setattr("vitsearch.data.estimate.time.process_time", lambda: 0.5 * len(decoded))
    spec = DataSpec("folder", root=str(photos(tmp_path / "in", 120)), image_size=ImageSize.square(64))
    estimated = estimate(spec)
    assert (estimated.images, estimated.image_size, estimated.channels, estimated.mapped) == (
        120,
        ImageSize.square(64),
        3,
        True,
    )
    assert estimated.sampled == SAMPLE
    assert estimated.bytes == 120 * 64 * 64 * 3
    assert estimated.decode_cpu_s == pytest.approx(120 * 0.5)
    data = load(spec, tmp_path / "cache")
    assert len(data.train) + len(data.validation) == estimated.images
    assert data.train.images.nbytes + data.validation.images.nbytes == estimated.bytes


@pytest.mark.parametrize("source", ["torch/image_folder", "folder"])
def test_sources_agree_on_sizes(tmp_path, source):
    photos(tmp_path / "train", 20, (48, 48))
    photos(tmp_path / "val", 6, (48, 48))
    estimated = estimate(DataSpec(source, root=str(tmp_path)))
    assert (estimated.images, estimated.image_size, estimated.channels) == (26, ImageSize.square(48), 3)
    assert not list(tmp_path.glob("*.json"))


def test_builtin_sets_are_estimated_without_reading_them(tmp_path):
    small = estimate(DataSpec("builtin:fashion-mnist-14k"))
    data = load(DataSpec("builtin:fashion-mnist-14k"))
    assert small.images == len(data.train) + len(data.validation)
    assert small.bytes == data.train.images.nbytes + data.validation.images.nbytes
    assert small.describe() == "12,000 images, stored as 28x28x1: 9.4 MB in memory"
    assert estimate(DataSpec("builtin:fashion-mnist", channels=3)).bytes == 60_000 * 28 * 28 * 3


def test_description_gives_size_and_time():
    text = DataEstimate(12_000, ImageSize.square(256), 3, True, 400.0, 32).describe()
    assert text == (
        "12,000 images, stored as 256x256x3: 2.36 GB on disk, mapped into memory as needed; "
        "decoding them once takes about 7 min of CPU time (estimated from 32 images)"
    )
    wide = DataEstimate(12_000, ImageSize(192, 256), 3, True, 400.0, 32)
    assert wide.describe().startswith("12,000 images, stored as 192x256x3: 1.77 GB on disk")
    assert "about 2.0 h" in DataEstimate(1, ImageSize.square(8), 1, True, 7200.0, 1).describe()
    assert "about 60 s" in DataEstimate(1, ImageSize.square(8), 1, True, 60.0, 1).describe()


def test_problems_are_reported_without_decoding_everything(tmp_path):
    photos(tmp_path, 60)
    whole = (tmp_path / "nut" / "001.jpg").read_bytes()
    (tmp_path / "nut" / "001.jpg").write_bytes(whole[:2000])
    (tmp_path / "washer").mkdir()
    with pytest.raises(DataError) as caught:
        estimate(DataSpec("folder", root=str(tmp_path), image_size=ImageSize.square(32)))
    assert "2 problems" in str(caught.value)
    assert "no images in 'washer'" in str(caught.value)
    assert "001.jpg: image file is truncated" in str(caught.value)
    with pytest.raises(DataError, match="only one class"):
        estimate(
            DataSpec("folder", root=str(photos(tmp_path / "one" / "x", 1).parent), image_size=ImageSize.square(32))
        )
