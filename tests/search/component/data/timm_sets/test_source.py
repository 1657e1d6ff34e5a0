"""Sets that timm's create_dataset reads become ImageData: real files of each kind, valid and invalid."""

from __future__ import annotations

import builtins
import importlib.util
import io
import json
import logging
import pickle
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitsearch.core.data_sources import TORCH_NAMES
from vitsearch.core.image_size import ImageSize
from vitsearch.data import DataSpec, ImageData, describe_difference, load
from vitsearch.data.fashion_mnist import CLASS_NAMES, subset_split
from vitsearch.data.timm_sets import read as timm_read
from vitsearch.errors import DataError

needs_datasets = pytest.mark.skipif(not importlib.util.find_spec("datasets"), reason="pip install 'vitsearch[hfds]'")
needs_webdataset = pytest.mark.skipif(not importlib.util.find_spec("webdataset"), reason="pip install 'vitsearch[wds]'")


def png(number: int, size=(12, 12), mode: str = "RGB") -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(content, "png")
    return content.getvalue()


def folders(root: Path, names=("bolt", "wing nut"), count=4, start=0, **options) -> Path:
    for position, name in enumerate(names):
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (root / name / f"{index:02}.png").write_bytes(png(start + 100 * position + index, **options))
    return root


def read(source: str, root: Path | None = None, cache: Path | None = None, **values) -> ImageData:
    return load(DataSpec(source, root=None if root is None else str(root), **values), cache)


def refused(*words: str, source: str, **values) -> str:
    with pytest.raises(DataError) as caught:
        read(source, **values)
    assert all(word in str(caught.value) for word in words), caught.value
    return str(caught.value)


# ---- torch/


@pytest.fixture(scope="module")
def fashion(tmp_path_factory) -> Path:
    """Part of Fashion-MNIST as torchvision leaves it."""
    root = tmp_path_factory.mktemp("torchvision")
    (root / "FashionMNIST" / "raw").mkdir(parents=True)
    for prefix, name, count in (("train", "train", 300), ("t10k", "test", 60)):
        split = subset_split(name)
        for kind, values in (("images-idx3", split.images[:count, ..., 0]), ("labels-idx1", split.labels[:count])):
            header = bytes([0, 0, 8, values.ndim]) + b"".join(size.to_bytes(4, "big") for size in values.shape)
            file = root / "FashionMNIST" / "raw" / f"{prefix}-{kind}-ubyte"
            file.write_bytes(header + values.astype(np.uint8).tobytes())
    return root


def test_torchvision_set_keeps_its_class_order_and_its_test_split(fashion, tmp_path):
    data = read("torch/fashion_mnist", fashion, tmp_path)
    assert data.class_names == CLASS_NAMES
    assert (data.image_size, data.channels) == (ImageSize.square(28), 1)
    assert len(data.train) + len(data.validation) == 300
    assert 20 <= len(data.validation) <= 40
    assert sorted(np.unique(data.validation.labels)) == list(range(10))
    original = subset_split("test")
    assert (data.test.images == original.images[:60]).all()
    assert (data.test.labels == original.labels[:60]).all()
    assert isinstance(data.train.images, np.memmap)


def test_torchvision_test_split_can_be_the_validation_split(fashion):
    for word in ("test", "validation"):
        data = read("torch/fashion_mnist", fashion, validation_split=word)
        assert (len(data.train), len(data.validation), data.test) == (300, 60, None)


def test_misspelt_torchvision_splits_are_refused(fashion):
    words = ("data.train_split", "no split 'trian'", "it has train, test")
    refused(*words, source="torch/fashion_mnist", root=fashion, train_split="trian")
    refused(
        "'test' is also the split",
        source="torch/fashion_mnist",
        root=fashion,
        train_split="val",
        validation_split="test",
    )


def test_missing_torchvision_set_is_reported(tmp_path):
    for name in ("cifar10", "qmnist", "inaturalist", "places365"):
        refused(f"torch/{name}", "is not found in", "data.download", source=f"torch/{name}", root=tmp_path)
    refused("data.root", "absent is not a folder", source="torch/mnist", root=tmp_path / "absent")
    assert not list(tmp_path.iterdir())


def test_unknown_torchvision_set_names_the_nearest():
    with pytest.raises(DataError, match=r"torch/ has no 'cifar11'; allowed: cifar10, .*did you mean 'cifar10'"):
        DataSpec("torch/cifar11", root="x")


def test_every_name_behind_torch_is_known_to_timm(tmp_path):
    from timm.data import create_dataset

    for name in TORCH_NAMES:
        try:
            create_dataset(f"torch/{name}", root=str(tmp_path), split="train")
        except AssertionError as error:
            pytest.fail(f"timm does not know torch/{name}: {error}")
        except (RuntimeError, OSError, ImportError):
            pass  # timm knows the set, but it is not on this machine


def test_validation_labels_use_the_class_order_of_training(tmp_path):
    folders(tmp_path / "train", ("bolt", "nut", "washer"))
    folders(tmp_path / "val", ("nut", "washer"), 2, start=1000)
    data = read("torch/image_folder", tmp_path)
    assert data.class_names == ("bolt", "nut", "washer")
    assert data.validation.labels.tolist() == [1, 1, 2, 2]
    folders(tmp_path / "val", ("screw",), 1)
    refused("validation has classes that train lacks: 'screw'", source="torch/image_folder", root=tmp_path)


def test_image_folder_without_splits_holds_out_validation_images(tmp_path):
    data = read("torch/image_folder", folders(tmp_path, count=5), validation_share=0.4)
    assert (len(data.train), np.bincount(data.validation.labels).tolist()) == (6, [2, 2])
    refused("no folder 'train'", "bolt, wing nut", source="torch/folder", root=tmp_path, validation_split="val")


def test_sources_agree_on_the_identity_of_the_same_files(tmp_path):
    folders(tmp_path / "train")
    folders(tmp_path / "val", count=2, start=1000)
    read_by = {source: read(source, tmp_path) for source in ("folder", "torch/image_folder")}
    identities = {data.identity for data in read_by.values()}
    assert len(identities) == 1


def test_images_that_timm_would_replace_are_reported(tmp_path):
    folders(tmp_path, count=5)
    (tmp_path / "bolt" / "01.png").write_bytes(b"no image")
    refused("1 image cannot be used", "image 1: not an image", source="torch/image_folder", root=tmp_path)
    (tmp_path / "bolt" / "01.png").write_bytes(png(1, size=(200, 200))[:3000])
    (tmp_path / "bolt" / "03.png").write_bytes(png(3, size=(200, 200))[:3000])
    values = {"root": tmp_path, "image_size": ImageSize.square(16)}
    refused("2 images cannot be used", "image 1", "image 3", "truncated", source="torch/image_folder", **values)


def test_one_class_and_mixed_sizes_are_refused(tmp_path):
    refused("only one class, 'bolt'", source="torch/folder", root=folders(tmp_path / "one", ("bolt",)))
    folders(tmp_path / "mixed")
    (tmp_path / "mixed" / "bolt" / "big.png").write_bytes(png(7, size=(20, 12)))
    refused("data.image_size: is missing", "12x12, 12x20", source="torch/folder", root=tmp_path / "mixed")


# ---- the cache, and identity


def test_images_behind_a_link_to_a_class_are_read_again_when_they_change(tmp_path):
    """A subset is often made of links; two of them are no one set, though both have no file of their own."""
    folders(tmp_path / "full", names=("bolt", "nut"))
    for subset, names in {"one": ("bolt", "nut"), "other": ("nut", "bolt")}.items():
        for name, linked in zip(("bolt", "nut"), names, strict=True):
            (tmp_path / subset).mkdir(exist_ok=True)
            (tmp_path / subset / name).symlink_to(tmp_path / "full" / linked, target_is_directory=True)
    (tmp_path / "full" / "bolt" / "back").symlink_to(tmp_path / "full", target_is_directory=True)
    one, other = (read("torch/image_folder", tmp_path / name, tmp_path / "cache") for name in ("one", "other"))
    assert one.identity != other.identity
    (tmp_path / "full" / "bolt" / "00.png").write_bytes(png(99))
    assert read("torch/image_folder", tmp_path / "one", tmp_path / "cache").identity != one.identity


def test_second_load_decodes_nothing_until_files_change(tmp_path, monkeypatch):
    folders(tmp_path / "in")
    first = read("torch/image_folder", tmp_path / "in", tmp_path / "cache", image_size=ImageSize.square(16))
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("i*")}
    opened = []
    monkeypatch.setattr(timm_read.MapSplit, "read", lambda split, rows: opened.append(rows) or iter(()))
    again = read("torch/image_folder", tmp_path / "in", tmp_path / "cache", image_size=ImageSize.square(16))
    assert (again.identity, opened) == (first.identity, [])
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").glob("i*")}
    monkeypatch.undo()
    (index,) = (tmp_path / "cache").glob("index-*.json")
    index.write_text("{")
    assert (
        read("torch/image_folder", tmp_path / "in", tmp_path / "cache", image_size=ImageSize.square(16)).identity
        == first.identity
    )
    (tmp_path / "in" / "bolt" / "00.png").write_bytes(png(99))
    changed = read("torch/image_folder", tmp_path / "in", tmp_path / "cache", image_size=ImageSize.square(16))
    lines = describe_difference(first.to_json(), changed.to_json())
    assert lines
    assert all(line.startswith(("train", "validation")) for line in lines)


def test_identity_depends_on_contents_not_paths(tmp_path):
    for name in ("a", "b"):
        folders(tmp_path / name)
    assert read("torch/folder", tmp_path / "a").identity == read("torch/folder", tmp_path / "b").identity


def test_pickle_round_trip(fashion):
    data = read("torch/fashion_mnist", fashion)
    again = pickle.loads(pickle.dumps(data))
    assert again.identity == data.identity
    assert again.test.sha256 == data.test.sha256


def test_other_classes_are_named_as_the_difference(tmp_path):
    stored = read("torch/folder", folders(tmp_path / "a")).to_json()
    other = read("torch/folder", folders(tmp_path / "b", ("bolt", "screw"))).to_json()
    assert "classes of the data that the study lacks: 'screw'" in describe_difference(stored, other)


# ---- tar


def tar_of(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w") as tar:
        tar.add(folder, arcname=".")
    return target


def test_tar_files_give_the_data_of_their_folders(tmp_path):
    folders(tmp_path / "in" / "train")
    folders(tmp_path / "in" / "val", ("wing nut",), 2, start=1000)
    for part in ("train", "val"):
        tar_of(tmp_path / "in" / part, tmp_path / f"{part}.tar")
    data = read("tar", tmp_path)
    assert data.identity == read("folder", tmp_path / "in").identity
    alone = read("tar", tmp_path / "train.tar")
    assert len(alone.train) + len(alone.validation) == 8


def test_missing_tar_is_reported(tmp_path):
    refused("neither a .tar file nor a folder", source="tar", root=tmp_path / "x.tar")
    refused("no train.tar; it has no .tar file", source="tar", root=tmp_path)


# ---- hfds/


@pytest.fixture
def hub_cache(tmp_path) -> Path:
    return tmp_path / "hub"


def parquet(folder: Path, features=None, **columns) -> str:
    """A folder with train.parquet; the source that names it."""
    import datasets

    folder.mkdir(parents=True)
    datasets.Dataset.from_dict(columns, features=features).to_parquet(str(folder / "train.parquet"))
    return f"hfds/{folder}"


@needs_datasets
def test_local_image_folder_through_hugging_face(tmp_path, hub_cache):
    folders(tmp_path / "in" / "train")
    folders(tmp_path / "in" / "test", count=2, start=1000)
    data = read(f"hfds/{tmp_path / 'in'}", hub_cache, tmp_path / "cache")
    assert data.class_names == ("bolt", "wing nut")
    assert len(data.train) + len(data.validation) == 8
    assert len(data.test) == 4
    judged = read(f"hfds/{tmp_path / 'in'}", hub_cache, validation_split="test")
    assert (len(judged.train), len(judged.validation), judged.test) == (8, 4, None)
    refused("no split 'tset'", "train, test", source=f"hfds/{tmp_path / 'in'}", root=hub_cache, validation_split="tset")


@needs_datasets
def test_parquet_keeps_the_order_of_its_class_labels(tmp_path, hub_cache):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["nut", "bolt"])})
    images = [{"bytes": png(number, mode="L"), "path": None} for number in range(6)]
    source = parquet(tmp_path / "in", features, image=images, label=[0, 1] * 3)
    data = read(source, hub_cache)
    assert data.class_names == ("nut", "bolt")
    assert data.channels == 1
    assert read(source, hub_cache, channels=3).channels == 3
    refused("has class names of its own", "'nut', 'bolt'", source=source, root=hub_cache, class_names=("a", "b"))


@needs_datasets
def test_columns_and_class_names_can_be_given(tmp_path, hub_cache):
    import datasets

    features = datasets.Features({"img": datasets.Image(), "kind": datasets.Value("int64")})
    images = [{"bytes": png(number), "path": None} for number in range(6)]
    source = parquet(tmp_path / "in", features, img=images, kind=[0, 1] * 3)
    keys = {"input_key": "img", "target_key": "kind"}
    refused("data.input_key", "no column 'image'", "img, kind", source=source, root=hub_cache)
    refused("data.target_key", "no column 'label'", source=source, root=hub_cache, input_key="img")
    assert read(source, hub_cache, **keys).class_names == ("0", "1")
    assert read(source, hub_cache, **keys, class_names=("bolt", "nut")).class_names == ("bolt", "nut")
    refused("data.class_names", "label 1", "1 class names", source=source, root=hub_cache, **keys, class_names=("a",))


@needs_datasets
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, -1, 1], "image 2: its label -1 is out of range"),
        (["a", "b", "a", "b"], "image 0: its label 'a' is not a whole number"),
        ([0.5, 1.0, 0.0, 1.0], "image 0: its label 0.5 is not a whole number"),
        ([0, 1, None, 1], "image 2: it has no label"),
    ],
)
def test_invalid_labels_are_reported(tmp_path, hub_cache, labels, message):
    import datasets

    kind = datasets.Value({int: "int64", str: "string", float: "float64"}[type(labels[0])])
    features = datasets.Features({"image": datasets.Image(), "label": kind})
    images = [{"bytes": png(number), "path": None} for number in range(4)]
    refused(message, source=parquet(tmp_path / "in", features, image=images, label=labels), root=hub_cache)


@needs_datasets
def test_unreadable_images_of_parquet_are_reported_by_index(tmp_path, hub_cache):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    images = [{"bytes": png(number), "path": None} for number in range(6)]
    images[1], images[4] = {"bytes": b"no image", "path": None}, None
    source = parquet(tmp_path / "in", features, image=images, label=[0, 1] * 3)
    refused(
        "2 images cannot be used", "image 1: not an image", "image 4: there is no image", source=source, root=hub_cache
    )


@needs_datasets
def test_missing_hugging_face_sets_are_reported(tmp_path, hub_cache, monkeypatch):
    from huggingface_hub import constants

    (tmp_path / "empty").mkdir()
    refused("data.source", "is not a folder", source=f"hfds/{tmp_path / 'absent'}", root=hub_cache)
    refused("doesn't contain any data files", source=f"hfds/{tmp_path / 'empty'}", root=hub_cache)
    before = constants.HF_HUB_OFFLINE
    refused("data.download is false", "hfds/nobody/nothing", source="hfds/nobody/nothing", root=hub_cache)
    assert before == constants.HF_HUB_OFFLINE
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused("the hub cannot be reached", source="hfds/nobody/nothing", root=hub_cache, download=True)


@needs_datasets
def test_a_save_to_disk_folder_is_refused_with_the_alternative(tmp_path, hub_cache):
    import datasets

    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
    content = {"image": [{"bytes": png(0), "path": None}], "label": [0]}
    datasets.disable_progress_bars()
    datasets.Dataset.from_dict(content, features=features).save_to_disk(str(tmp_path / "saved"))
    refused("save_to_disk", "to_parquet", source=f"hfds/{tmp_path / 'saved'}", root=hub_cache)


# ---- wds/


def shards(root: Path, members: dict[str, bytes], count: int, per_shard: int = 4, **info) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    keys = sorted({name.partition(".")[0] for name in members})
    names = []
    for start in range(0, len(keys), per_shard):
        names.append(f"part-{start:03}.tar")
        with tarfile.open(root / names[-1], "w") as tar:
            for name, content in sorted(members.items()):  # files of one sample must be neighbours
                if name.partition(".")[0] in keys[start : start + per_shard]:
                    entry = tarfile.TarInfo(name)
                    entry.size = len(content)
                    tar.addfile(entry, io.BytesIO(content))
    split = {"name": "train", "filenames": names, "shard_lengths": [per_shard] * len(names), "num_samples": count}
    (root / "_info.json").write_text(json.dumps({"splits": {"train": split | info}}))
    return root


def samples(count: int, **options) -> dict[str, bytes]:
    return {
        name: content
        for number in range(count)
        for name, content in (
            (f"{number:03}.png", png(number, **options)),
            (f"{number:03}.cls", str(number % 2).encode()),
        )
    }


@needs_webdataset
def test_all_samples_of_all_shards_are_read(tmp_path):
    root = shards(tmp_path / "in", samples(10, mode="L"), 10)
    data = read("wds/parts", root, tmp_path / "cache", class_names=("bolt", "nut"))
    assert data.class_names == ("bolt", "nut")
    assert (data.channels, len(data.train), len(data.validation)) == (1, 8, 2)
    expected = np.stack([np.asarray(Image.open(io.BytesIO(png(number, mode="L")))) for number in range(10)])
    kept = {image.tobytes() for split in (data.train, data.validation) for image in split.images}
    assert kept == {image.tobytes() for image in expected}
    assert read("wds/parts", root).class_names == ("0", "1")
    again = read("wds/parts", root, tmp_path / "cache", class_names=("bolt", "nut"))
    assert again.identity == data.identity


@needs_webdataset
def test_samples_that_timm_would_skip_are_reported(tmp_path, caplog):
    members = samples(8)
    members["002.png"] = members["002.png"][:60]
    del members["005.cls"]
    with caplog.at_level(logging.WARNING):
        refused(
            "2 images cannot be used", "image 2: ", "image 5: it has no 'cls'",
            source="wds/parts", root=shards(tmp_path / "a", members, 8),
        )  # fmt: skip
    assert not caplog.records
    refused("9 images are declared, 8 were read", source="wds/parts", root=shards(tmp_path / "b", samples(8), 9))
    negative = samples(8) | {"003.cls": b"-1"}
    refused("image 3: its label -1 is out of range", source="wds/parts", root=shards(tmp_path / "c", negative, 8))


@needs_webdataset
def test_labels_are_read_from_json_files(tmp_path):
    members = samples(8) | {f"{n:03}.json": json.dumps({"kind": n % 4 // 2}).encode() for n in range(8)}
    data = read("wds/parts", shards(tmp_path, members, 8), target_key="kind")
    assert sorted([*data.train.labels, *data.validation.labels]) == [0] * 4 + [1] * 4
    refused("1 image", "'other'", "not found", source="wds/parts", root=tmp_path, target_key="other")


@needs_webdataset
def test_missing_shards_or_descriptions_are_reported(tmp_path):
    refused("no _info.json", '"splits"', source="wds/parts", root=tmp_path)
    refused("is not a folder", source="wds/parts", root=tmp_path / "absent")
    (tmp_path / "_info.json").write_text("{")
    refused("_info.json: is not JSON", source="wds/parts", root=tmp_path)
    root = shards(tmp_path / "in", samples(8), 8)
    refused("no split 'val'", "it has train", source="wds/parts", root=root, validation_split="val")
    (root / "part-004.tar").unlink()
    refused("shards that do not exist", "part-004.tar", source="wds/parts", root=root)


@needs_webdataset
def test_a_folder_that_is_called_like_a_command_is_a_folder(tmp_path, monkeypatch):
    """webdataset runs what follows `pipe:` in a shell."""
    monkeypatch.chdir(tmp_path)
    shards(tmp_path / "pipe:touch ran #", samples(8), 8)
    assert len(read("wds/parts", "pipe:touch ran #").train) > 0
    assert not (tmp_path / "ran").exists()


def shard(root: Path, *members: tuple[str, bytes], link: str = "") -> Path:
    """One shard of eight samples, with what is hostile in it; `link` is the name of a link to a file of the system."""
    shards(root, samples(8), 8, per_shard=8)
    with tarfile.open(root / "part-000.tar", "w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
        if link:
            entry = tarfile.TarInfo(link)
            entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(entry)
            entry = tarfile.TarInfo("zzz.cls")
            entry.size = 1
            tar.addfile(entry, io.BytesIO(b"0"))
    return root


def sorted_samples(prefix: str = "", **changed: bytes) -> list[tuple[str, bytes]]:
    members = sorted(samples(8).items())
    return [(prefix + name, changed.get(name.partition(".")[2] + name[:3], content)) for name, content in members]


def rewritten(root: Path, change: Callable[[bytearray], bytes | bytearray]) -> Path:
    path = root / "part-000.tar"
    path.write_bytes(change(bytearray(path.read_bytes())))
    return root


def of_4_eb(tar: bytearray) -> bytearray:
    """Its first header says that the file has 4 EB, and has the right checksum."""
    tar[124:136] = b"\x80" + (2**62).to_bytes(11, "big")
    tar[148:156] = b" " * 8
    tar[148:156] = b"%06o\0 " % sum(tar[:512])
    return tar


def png_bomb() -> bytes:
    """A small file of 60,000 x 60,000 pixels."""
    content = bytearray(png(0))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


def named_like_a_command(root: Path) -> Path:
    info = json.loads((root / "_info.json").read_text())
    info["splits"]["train"]["filenames"] = [f"pipe:touch {root}/ran #"]
    (root / "_info.json").write_text(json.dumps(info))
    return root


HARMLESS_TARS = {
    "absolute paths": lambda root: shard(root, *sorted_samples("/etc/vitsearch/")),
    "paths to folders above": lambda root: shard(root, *sorted_samples("../../")),
}
NOT_WHOLE = "part-000.tar is not a tar file, or is cut off or damaged"
HOSTILE_TARS = {
    "a link": (lambda root: shard(root, *sorted_samples(), link="zzz.png"), "image 8: it has none of ['jpg', 'jpeg'"),
    "cut off": (lambda root: rewritten(shard(root, *sorted_samples()), lambda tar: tar[:700]), NOT_WHOLE),
    "cut off in a header": (
        lambda root: rewritten(shard(root, *sorted_samples()), lambda tar: tar[:2200]),
        "8 images are declared, 1 were read; a shard is cut off, or labels are below 0",
    ),
    "4 EB": (lambda root: rewritten(shard(root, *sorted_samples()), of_4_eb), NOT_WHOLE),
    "not a tar": (lambda root: rewritten(shard(root), lambda tar: b"no tar" * 1000), NOT_WHOLE),
    "nothing": (lambda root: rewritten(shard(root), lambda tar: b""), NOT_WHOLE),
    "a command": (lambda root: named_like_a_command(shard(root)), "_info.json lists shards that do not exist"),
    "not an image": (lambda root: shard(root, *sorted_samples(png002=b"text")), "image 2: not an image, or damaged"),
    "a bomb": (lambda root: shard(root, *sorted_samples(png002=png_bomb())), "image 2: Image size (3600000000 pixels)"),
    "a label that is none": (
        lambda root: shard(root, *sorted_samples(cls005=b"-")),
        "image 5: its label is no whole number but b'-'",
    ),
    "a file twice": (
        lambda root: shard(root, sorted_samples()[0], *sorted_samples()),
        "image 0: its shard has two files 000.cls",
    ),
}


@needs_webdataset
@pytest.mark.parametrize("make", HARMLESS_TARS.values(), ids=HARMLESS_TARS)
def test_nothing_is_written_where_a_tar_says(tmp_path, make):
    data = read("wds/parts", make(tmp_path / "some" / "folder" / "in"))
    assert len(data.train) + len(data.validation) == 8
    assert not Path("/etc/vitsearch").exists()
    assert {path.name for path in tmp_path.rglob("*")} == {"some", "folder", "in", "part-000.tar", "_info.json"}


@needs_webdataset
@pytest.mark.parametrize(("make", "words"), HOSTILE_TARS.values(), ids=HOSTILE_TARS)
def test_a_hostile_tar_is_refused_in_words_of_ours(tmp_path, make, words):
    message = refused(words, source="wds/parts", root=make(tmp_path / "in"))
    assert len(message.splitlines()) <= 2
    assert "_io." not in message
    assert "(None" not in message
    assert not (tmp_path / "in" / "ran").exists()


# ---- unsupported sources and missing libraries


@pytest.mark.parametrize(("source", "package"), [("hfds/x", "datasets"), ("wds/x", "webdataset")])
def test_missing_libraries_are_reported_with_the_install_command(monkeypatch, tmp_path, source, package):
    original = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else original(name))
    kind = source.partition("/")[0]
    refused(f"needs the package {package}", f"pip install 'vitsearch[{kind}]'", source=source, root=tmp_path)


def test_missing_library_of_one_torchvision_set_is_reported(monkeypatch, tmp_path):
    real = builtins.__import__

    def without_scipy(name, *arguments, **options):
        if name.partition(".")[0] == "scipy":
            raise ModuleNotFoundError("No module named 'scipy'", name="scipy")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_scipy)
    refused("torch/imagenet", "pip install scipy", source="torch/imagenet", root=tmp_path)


@pytest.mark.parametrize("source", ["tfds/mnist", "hfids/mnist", "torch/", "hfds/", "timm/x"])
def test_unknown_sources_are_refused(source):
    with pytest.raises(DataError, match="data.source"):
        DataSpec(source, root="x")


@pytest.mark.parametrize("source", ["tar", "torch/mnist", "wds/x"])
def test_root_is_required(source):
    with pytest.raises(DataError, match=f"data.root: is missing; 'source: {source}' needs"):
        DataSpec(source)
