"""The data spec, the identity of a data set, the two built-in sets and tensors."""

from __future__ import annotations

import dataclasses
import gzip
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from support import PYTHON_PATH
from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import Preprocessing
from vitsearch.data import DataSpec, ImageData, Split, describe_difference, load
from vitsearch.data import fashion_mnist as fm
from vitsearch.data.fashion_mnist import read_idx
from vitsearch.data.tensors import to_tensor
from vitsearch.errors import DataError

# Changes only with the committed asset or the meaning of a fingerprint (SCHEMA): then every study breaks.
GOLDEN = "311ea9cc3947638c251e4645bb2e7f6d49766ab36277a7b4d5b111f10d4e739f"


@pytest.fixture(scope="module")
def subset() -> ImageData:
    return load(DataSpec("builtin:fashion-mnist-14k"))


def test_subset_is_balanced(subset):
    assert (len(subset.train), len(subset.validation), len(subset.test)) == (10_000, 2_000, 2_000)
    for split, each in ((subset.train, 1000), (subset.validation, 200), (subset.test, 200)):
        assert split.images.dtype == np.uint8
        assert split.images.shape[1:] == (28, 28, 1)
        assert split.labels.dtype == np.int64
        assert np.bincount(split.labels, minlength=10).tolist() == [each] * 10


def test_splits_share_no_image(subset):
    contents = [{image.tobytes() for image in s.images} for s in (subset.train, subset.validation, subset.test)]
    assert [len(each) for each in contents] == [10_000, 2_000, 2_000]
    assert len(set.union(*contents)) == 14_000


def test_classes_are_mixed(subset):
    assert len(set(subset.train.labels[:64].tolist())) == 10
    assert len(set(subset.validation.labels[:64].tolist())) == 10


def test_identity_is_pinned(subset):
    assert subset.identity.fingerprint == GOLDEN
    assert (subset.identity.classes, subset.identity.channels) == (10, 1)
    assert subset.class_names[9] == "Ankle boot"


def test_colour_repeats_grey_and_changes_the_identity(subset):
    colour = load(DataSpec("builtin:fashion-mnist-14k", channels=3))
    assert (colour.channels, colour.image_size, len(colour.mean), len(colour.std)) == (3, ImageSize.square(28), 3, 3)
    assert (colour.train.images == subset.train.images).all()
    assert colour.test.images.shape == (2000, 28, 28, 3)
    assert colour.identity != subset.identity


def test_test_images_are_read_on_first_use(subset):
    reads = []
    split = Split.of(subset.train.images[:10], subset.train.labels[:10])

    def read() -> Split:
        reads.append(1)
        return split

    data = ImageData(subset.class_names, split, split, (0.3,), (0.3,), read)
    assert data.identity
    assert data.to_json()
    assert not reads
    assert data.test is data.test
    assert len(reads) == 1
    assert dataclasses.replace(data, read_test=None).test is None


def test_a_tenth_of_each_class_judges_and_the_others_are_learned_from(subset):
    assert np.bincount(subset.train.labels[subset.holdout]).tolist() == [100] * 10
    assert sorted([*subset.holdout, *subset.learned]) == list(range(10_000))
    few = load(DataSpec("builtin:fashion-mnist-14k", holdout_images=70))
    assert np.bincount(few.train.labels[few.holdout]).tolist() == [7] * 10
    assert few.identity != subset.identity
    assert describe_difference(subset.to_json(), few.to_json()) == [
        "holdout_images: the study has 1000, the data now has 70"
    ]


def test_pickle_round_trip(subset):
    again = pickle.loads(pickle.dumps(subset))
    assert again.identity == subset.identity
    assert again.test.sha256 == subset.test.sha256


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"source": "builtin:fashion_mnist"},
            ["builtin:fashion_mnist", "did you mean 'builtin:fashion-mnist'"],
        ),
        ({"source": "folder"}, ["data.root", "missing"]),
        ({"source": "folder", "root": "x", "channels": 4}, ["data.channels", "4", "1 (grey)"]),
        ({"source": "folder", "root": "x", "image_size": ImageSize(64, 4)}, ["data.image_size", "64x4", "8 to 4096"]),
        ({"source": "folder", "root": "x", "holdout_images": 0}, ["data.holdout_images", "0", "at least 1"]),
        (
            {"source": "folder", "root": "x", "validation_share": 1.0},
            ["data.validation_share", "1.0", "below 1"],
        ),
    ],
)
def test_wrong_specs_are_refused(values, words):
    with pytest.raises(DataError) as caught:
        DataSpec(**values)
    assert all(word in str(caught.value) for word in words), caught.value


def test_builtin_sets_refuse_another_image_size():
    with pytest.raises(DataError, match="images of 28 pixels"):
        load(DataSpec("builtin:fashion-mnist-14k", image_size=ImageSize.square(32)))


def test_spec_json_round_trip():
    spec = DataSpec("folder", root="parts", image_size=ImageSize.square(64), channels=3, validation_share=0.2, seed=3)
    assert DataSpec.from_json(spec.to_json()) == spec
    rectangle = dataclasses.replace(spec, image_size=ImageSize(64, 96))
    assert (spec.to_json()["image_size"], rectangle.to_json()["image_size"]) == (64, [64, 96])
    assert DataSpec.from_json(json.loads(json.dumps(rectangle.to_json()))) == rectangle


def test_difference_names_what_differs(subset):
    stored = subset.to_json()
    assert describe_difference(stored, subset.to_json()) == []
    fewer = Split.of(subset.train.images[:9_990], subset.train.labels[:9_990])
    swapped = Split.of(subset.validation.images[::-1], subset.validation.labels[::-1])
    names = (*subset.class_names[:9], "Boot")
    other = dataclasses.replace(subset, class_names=names, train=fewer, validation=swapped)
    assert describe_difference(stored, other.to_json()) == [
        "classes of the study that the data lacks: 'Ankle boot'",
        "classes of the data that the study lacks: 'Boot'",
        "holdout_images: the study has 1000, the data now has 999",
        "train: the study has 10000 images, the data now has 9990",
        "validation: 2000 images as before, but the images, labels or their order differ",
    ]
    turned = dataclasses.replace(subset, class_names=subset.class_names[::-1])
    (line,) = describe_difference(stored, turned.to_json())
    assert line.startswith("order of the classes: the study has 'T-shirt/top'")
    assert describe_difference(stored, load(DataSpec("builtin:fashion-mnist-14k", channels=3)).to_json()) == [
        "channels: the study has 1, the data now has 3"
    ]


@pytest.mark.long
def test_full_set_holds_out_the_same_validation_images(subset):
    try:
        full = load(DataSpec("builtin:fashion-mnist"))
    except DataError:
        pytest.skip("Fashion-MNIST is not installed (Debian: dataset-fashion-mnist)")
    assert (len(full.train), len(full.validation)) == (58_000, 2_000)
    assert full.validation.sha256 == subset.validation.sha256
    held_out = {image.tobytes() for image in full.validation.images}
    assert held_out.isdisjoint(image.tobytes() for image in full.train.images)
    assert len(full.test) == 10_000
    assert np.isclose(full.train.images.mean() / 255, full.mean[0], atol=1e-4)
    assert np.isclose(full.train.images.std() / 255, full.std[0], atol=1e-4)


def test_missing_full_set_lists_the_searched_folders(tmp_path, monkeypatch):
    with pytest.raises(DataError) as caught:
        load(DataSpec("builtin:fashion-mnist", root=str(tmp_path)))
    message = str(caught.value)
    for words in (str(tmp_path / "FashionMNIST" / "raw"), "dataset-fashion-mnist", "download=True", "14k"):
        assert words in message
    monkeypatch.setattr(fm, "DEBIAN_FOLDER", tmp_path / "none")
    monkeypatch.setenv("VITSEARCH_DATA", str(tmp_path / "mine"))
    with pytest.raises(DataError, match="mine"):
        load(DataSpec("builtin:fashion-mnist"))


def test_full_set_is_found_as_torchvision_leaves_it(tmp_path):
    raw = tmp_path / "FashionMNIST" / "raw"
    raw.mkdir(parents=True)
    for index, name in enumerate(fm._FILES):
        (raw / (name + (".gz" if index % 2 else ""))).write_bytes(b"")
    assert fm.find_full(None, {"VITSEARCH_DATA": str(tmp_path)}.get) == raw
    assert fm.find_full(tmp_path) == raw


def idx(shape: tuple[int, ...], values: bytes, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape) + values


def test_idx_files_plain_and_gzipped(tmp_path):
    (tmp_path / "a").write_bytes(idx((2, 3), bytes(range(6))))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx((2, 3), bytes(range(6)))))
    for name in ("a", "a.gz"):
        assert read_idx(tmp_path / name).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (idx((2, 3), bytes(5)), "5 values follow a header of \\(2, 3\\)"),
        (idx((2,), bytes(8), kind=13), "not an IDX file"),
        (b"\0\0\x08\x03\0\0", "ends within its header, after 6 bytes"),
        (b"", "not an IDX file"),
    ],
)
def test_damaged_idx_files_are_refused(tmp_path, content, words):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_idx(tmp_path / "a")
    (tmp_path / "b.gz").write_bytes(gzip.compress(idx((9,), bytes(9)))[:-9])
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "b.gz")


def test_tensors_are_normalised_and_resized(subset):
    images = subset.train.images[:4]
    plain = to_tensor(images, ImageSize.square(28), Preprocessing((0.25,), (0.5,)))
    assert plain.shape == (4, 1, 28, 28)
    assert plain.dtype == torch.float32
    expected = (torch.tensor(images.astype(np.float32)).permute(0, 3, 1, 2) / 255 - 0.25) / 0.5
    torch.testing.assert_close(plain, expected)
    small = to_tensor(images, ImageSize.square(14), Preprocessing((0.0,), (1.0,)))
    assert small.shape == (4, 1, 14, 14)
    assert small.mean().item() == pytest.approx(images.mean() / 255, abs=0.01)
    frozen = images.copy()
    frozen.setflags(write=False)
    torch.testing.assert_close(to_tensor(frozen, ImageSize.square(28), Preprocessing((0.25,), (0.5,))), plain)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("resolution", [8, 16])
def test_tensors_are_contiguous(channels, resolution):
    """Not channels_last, also where one channel makes the two the same in memory: torch decides by the strides."""
    images, halves = np.zeros((4, 8, 8, channels), dtype=np.uint8), (0.5,) * channels
    strides = (channels * resolution**2, resolution**2, resolution, 1)
    assert to_tensor(images, ImageSize.square(resolution), Preprocessing(halves, halves)).stride() == strides


def test_data_does_not_import_torch():
    code = "import sys, vitsearch.data; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": PYTHON_PATH})
