"""Bundles are read strictly, and every error says which file is wrong and how."""

import json
import os
import socket
import zipfile

import pytest

from support.bundles import PREPROCESSING, QUALITIES, manifest, manifest_of, write_bundle
from vitsearch_agent.errors import DamagedBundle, InvalidRequest
from vitsearch_agent.verify import bundle


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "tiny", manifest())


def test_a_bundle_is_read(folder):
    content = bundle.read(folder)
    assert content.manifest.name == "tiny-trial-1"
    assert content.manifest.accuracy == bundle.Counted("test", 100, 90)
    assert content.manifest.figures["latency_ms_p50"].high == 1.1
    assert content.labels[3] == "south east"
    assert list(content.model_files) == ["model.onnx"]


def test_all_files_of_an_intact_bundle_have_their_checksums(folder):
    assert bundle.damaged(folder) == (4, [])


def test_a_changed_and_a_missing_file_are_named(folder, tmp_path):
    (tmp_path / "tiny" / "labels.json").write_text("[]")
    (tmp_path / "tiny" / "model.onnx").unlink()
    assert bundle.damaged(folder) == (4, ["labels.json was changed", "model.onnx is missing"])


def test_a_file_that_was_added_is_named(folder, tmp_path):
    """Python would import the first one in the place of NumPy."""
    (tmp_path / "tiny" / "numpy.py").write_text("raise SystemExit('not NumPy')")
    (tmp_path / "tiny" / "PIL").mkdir()
    (tmp_path / "tiny" / "PIL" / "__init__.py").write_text("")
    (tmp_path / "tiny" / "onnxruntime").symlink_to(tmp_path)
    wrong = ["PIL/ was added", "numpy.py was added", "onnxruntime was added"]
    assert bundle.damaged(folder) == (4, wrong)


def test_a_compiled_module_was_added(folder, tmp_path):
    """Python runs one whose hash it does not check in the place of the shipped preprocessing.py."""
    (tmp_path / "tiny" / "__pycache__").mkdir()
    (tmp_path / "tiny" / "__pycache__" / "preprocessing.cpython-311.pyc").write_bytes(b"")
    assert bundle.damaged(folder) == (4, ["__pycache__/ was added"])


def add_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)


ADDED = {
    "empty folder": ("other", os.mkdir, "other/"),
    "zip": ("tiny.zip", lambda path: open(path, "wb").close(), "tiny.zip"),
    "another case": ("BUNDLE.JSON", lambda path: open(path, "wb").close(), "BUNDLE.JSON"),
    "another list": ("sha256sums", lambda path: open(path, "wb").close(), "sha256sums"),
    "hidden file": (".hidden", lambda path: open(path, "wb").close(), ".hidden"),
    "below a listed folder": ("images/numpy.py", lambda path: open(path, "wb").close(), "images/numpy.py"),
    "folder below a listed one": ("images/__pycache__", os.mkdir, "images/__pycache__/"),
    "link to a file": ("link", lambda path: os.symlink("bundle.json", path), "link"),
    "link to a folder": ("link", lambda path: os.symlink("images", path), "link"),
    "link to nothing": ("link", lambda path: os.symlink("nowhere", path), "link"),
    "FIFO": ("fifo", os.mkfifo, "fifo"),
    "socket": ("socket", add_socket, "socket"),
    "link as the signature": ("SHA256SUMS.sig", lambda path: os.symlink("bundle.json", path), "SHA256SUMS.sig"),
    "FIFO as the signature": ("SHA256SUMS.sig", os.mkfifo, "SHA256SUMS.sig"),
    "folder as the signature": ("SHA256SUMS.sig", os.mkdir, "SHA256SUMS.sig/"),
    "signature of another name": ("bundle.json.sig", lambda path: open(path, "wb").close(), "bundle.json.sig"),
}


@pytest.mark.parametrize(("name", "make", "added"), ADDED.values(), ids=ADDED)
def test_whatever_is_not_listed_was_added(tmp_path, monkeypatch, name, make, added):
    folder = write_bundle(tmp_path / "tiny", manifest(), {"images/labels.npy": b"labels"})
    monkeypatch.chdir(folder)  # the name of a socket is short
    make(name)
    assert bundle.damaged(folder) == (5, [f"{added} was added"])


def test_a_signature_was_not_added(folder, tmp_path):
    (tmp_path / "tiny" / "SHA256SUMS.sig").write_text("signature")
    assert bundle.damaged(folder) == (4, [])


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda path: os.symlink("/dev/zero", path), "a link"),
        (lambda path: os.symlink("copy", path), "a link"),
        (os.mkfifo, "a FIFO"),
        (add_socket, "a socket"),
    ],
)
def test_what_has_the_name_of_a_listed_file_and_is_none_is_named(folder, tmp_path, monkeypatch, make, kind):
    monkeypatch.chdir(folder)
    os.rename("model.onnx", str(tmp_path / "copy"))
    make("model.onnx")
    assert bundle.damaged(folder) == (4, [f"model.onnx cannot be read: it is {kind}"])


def test_a_folder_with_the_name_of_a_listed_file_is_named(folder, tmp_path):
    (tmp_path / "tiny" / "model.onnx").unlink()
    (tmp_path / "tiny" / "model.onnx").mkdir()
    assert bundle.damaged(folder) == (4, ["model.onnx is missing", "model.onnx/ was added"])


def test_a_link_to_the_folder_of_listed_files_is_named(tmp_path):
    folder = write_bundle(tmp_path / "tiny", manifest(), {"images/labels.npy": b"labels"})
    (tmp_path / "tiny" / "images").rename(tmp_path / "images")
    (tmp_path / "tiny" / "images").symlink_to(tmp_path / "images")
    assert bundle.damaged(folder) == (5, ["images/labels.npy is missing", "images was added"])


def test_files_that_are_too_large_are_not_read(folder, tmp_path):
    with open(str(tmp_path / "tiny" / "model.onnx"), "r+b") as stream:
        stream.truncate(5 << 30)
    (text,) = bundle.damaged(folder)[1]
    assert text.startswith("its files have 53687")
    assert text.endswith("bytes, allowed are 4294967296")


ZEROS = "0" * 64
CODE = "code that 'vitsearch ship' does not write"
LISTS = {
    "code in the place of a library": (f"{ZEROS}  numpy.py\n", f"line 5: 'numpy.py' is {CODE}"),
    "compiled code": (f"{ZEROS}  __pycache__/preprocessing.cpython-311.pyc\n", f"is {CODE}"),
    "a library": (f"{ZEROS}  numpy.SO\n", f"is {CODE}"),
    "another line": ("nonsense\n", "line 5: expected 'sha256  name', got 'nonsense'"),
    "an empty line": ("\n", "line 5: expected 'sha256  name', got ''"),
    "capitals": (f"{'A' * 64}  x\n", "line 5: expected 'sha256  name'"),
    "one space": (f"{ZEROS} x\n", "line 5: expected 'sha256  name'"),
    "no name": (f"{ZEROS}  \n", "line 5: expected 'sha256  name'"),
    "outside": (f"{ZEROS}  ../outside\n", "line 5: '../outside' is a path with .."),
    "outside, later": (f"{ZEROS}  images/../../x\n", "line 5: 'images/../../x' is a path with .."),
    "absolute": (f"{ZEROS}  /etc/passwd\n", "line 5: '/etc/passwd' is an absolute path"),
    "backslash": (f"{ZEROS}  images\\x\n", "is a name with control characters, \\ or :"),
    "drive": (f"{ZEROS}  C:x\n", "is a name with control characters, \\ or :"),
    "end of line of Windows": (f"{ZEROS}  x\r\n", "is a name with control characters, \\ or :"),
    "direction of writing": (f"{ZEROS}  x\u202etxt\n", "is a name with control characters, \\ or :"),
    "not normal": (f"{ZEROS}  ./x\n", "line 5: './x' is not a plain relative path"),
    "folder": (f"{ZEROS}  x/\n", "line 5: 'x/' is not a plain relative path"),
    "dot at the end": (f"{ZEROS}  numpy.py.\n", "line 5: 'numpy.py.' is not a plain relative path"),
    "long": (f"{ZEROS}  {'x' * 256}\n", "is not a plain relative path"),
    "deep": (f"{ZEROS}  {'x/' * 17}x\n", "is a path that is too long"),
    "very long": (f"{ZEROS}  {'x' * 200}/{'x' * 900}\n", "is a path that is too long"),
    "itself": (f"{ZEROS}  SHA256SUMS\n", "line 5: 'SHA256SUMS' is a name that the list and its signature have"),
    "twice": (f"{ZEROS}  bundle.json\n", "lists bundle.json twice"),
    "another case": (f"{ZEROS}  Bundle.json\n", "lists Bundle.json twice"),
}


@pytest.mark.parametrize(("more", "message"), LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("first", [False, True], ids=["last", "first"])
def test_a_list_of_checksums_with_other_lines_is_damaged(folder, tmp_path, more, message, first):
    path = tmp_path / "tiny" / "SHA256SUMS"
    whole = path.read_bytes()
    path.write_bytes(more.encode() + whole if first else whole + more.encode())
    with pytest.raises(DamagedBundle) as caught:
        bundle.damaged(folder)
    if not first:
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "SHA256SUMS is empty"),
        (b"\xff\xfe", "SHA256SUMS is not UTF-8 text"),
        (ZEROS.encode() + b"  x\n", "SHA256SUMS does not list bundle.json"),
        (b"x" * (1 << 20) + b"\n", "SHA256SUMS cannot be read: it has more than 1048576 bytes"),
    ],
)
def test_a_list_of_nothing_of_ours_is_damaged(folder, tmp_path, content, message):
    (tmp_path / "tiny" / "SHA256SUMS").write_bytes(content)
    with pytest.raises(DamagedBundle, match=message):
        bundle.damaged(folder)


@pytest.mark.parametrize("target", [None, "/dev/zero", "/dev/null", "copy"])
def test_a_list_that_is_no_file_is_damaged(folder, tmp_path, target):
    path = tmp_path / "tiny" / "SHA256SUMS"
    path.rename(tmp_path / "tiny" / "copy")
    os.mkfifo(str(path)) if target is None else path.symlink_to(target)
    with pytest.raises(DamagedBundle, match="SHA256SUMS cannot be read: it is a"):
        bundle.damaged(folder)


def test_another_folder_is_no_bundle(tmp_path):
    with pytest.raises(InvalidRequest, match="is not a bundle of 'vitsearch ship': it has no readable SHA256SUMS"):
        bundle.damaged(str(tmp_path))
    with pytest.raises(InvalidRequest, match="is not a bundle of 'vitsearch ship': it has no bundle.json"):
        bundle.read(str(tmp_path))


def test_what_is_neither_a_folder_nor_a_zip_is_refused(tmp_path):
    with (
        pytest.raises(InvalidRequest, match="is not a bundle: neither a folder nor a zip of one"),
        bundle.opened(str(tmp_path / "nothing")),
    ):
        pass


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema": 4}, r"bundle.json.schema: expected a whole number from 3 to 3, got 4"),
        ({"model": "../model.onnx"}, r"bundle.json.model: '../model.onnx' is not one of model.onnx, model.xml"),
        ({"figures": {"cpu_ms_p50": {}}}, r"bundle.json.figures.cpu_ms_p50: missing high, low, value"),
        (
            {"accuracy": {"split": "test", "n": 4, "correct": 5}},
            r"bundle.json.accuracy: 5 of 4 images cannot be correct",
        ),
        ({"images": {"split": "test", "n": -4, "correct": 0}}, r"bundle.json.images.n: expected a whole number from 1"),
        ({"model": "model.xml"}, r"needs model.xml, which is missing"),
        ({"artifact_key": "x"}, r"bundle.json.artifact_key: expected 64 lower-case hex digits, got 'x'"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path, changes, message):
    with pytest.raises(InvalidRequest, match=message):
        bundle.read(write_bundle(tmp_path, manifest(**changes)))


def test_a_bundle_of_another_task_has_qualities(tmp_path):
    folder = write_bundle(tmp_path, manifest_of("embedding"))
    read = bundle.read(folder).manifest
    assert read.task == bundle.Task("embedding")
    assert read.qualities.on_images["cosine"] == bundle.Quality(0.9, 0.8, 1.0, 4)
    assert (read.accuracy, read.images) == (None, None)


def test_a_bundle_of_another_task_may_have_no_labels(tmp_path):
    folder = write_bundle(tmp_path, manifest_of("depth", qualities=dict(QUALITIES, on_split={}, on_images={})))
    (tmp_path / "labels.json").unlink()
    assert bundle.read(folder).labels == ()
    (tmp_path / "labels.json").write_text("{")
    with pytest.raises(InvalidRequest, match="labels.json is not JSON"):
        bundle.read(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": None}, "bundle.json.task: expected an object, got None"),
        ({"task": {}}, "bundle.json.task: missing kind"),
        ({"task": {"kind": "classification"}}, "bundle.json: unknown qualities and missing accuracy, images"),
        ({"task": {"kind": "Embedding"}}, "bundle.json.task.kind: expected a name of small letters, got 'Embedding'"),
        ({"task": {"kind": ["embedding"]}}, "bundle.json.task.kind: expected a string"),
        ({"task": {"kind": "x\n"}}, "bundle.json.task.kind: expected a name"),
        ({"accuracy": {"split": "test", "n": 4, "correct": 4}}, "bundle.json: unknown accuracy"),
        ({"qualities": None}, "bundle.json.qualities: expected an object"),
        ({"qualities": dict(QUALITIES, images=10001)}, "bundle.json.qualities.images: .* from 1 to 10000"),
        ({"qualities": dict(QUALITIES, on_split={})}, "bundle.json.qualities.on_split: missing cosine, neighbours"),
        ({"qualities": dict(QUALITIES, on_images={})}, "bundle.json.qualities.on_images: missing cosine, neighbours"),
        ({"qualities": dict(QUALITIES, on_split={"cosine": 1})}, "on_split.cosine: expected an object"),
    ],
)
def test_a_wrong_task_is_refused(tmp_path, changes, message):
    with pytest.raises(InvalidRequest, match=message):
        bundle.read(write_bundle(tmp_path, manifest_of("embedding", **changes)))


def test_without_images_there_are_no_qualities_of_them(tmp_path):
    qualities = dict(QUALITIES, images=None, on_images={})
    read = bundle.read(write_bundle(tmp_path, manifest_of("embedding", qualities=qualities)))
    assert read.manifest.qualities.images is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mean": [0.0, 0.0, 0.0]}, r"preprocessing.json.mean: expected 1 numbers, one for each channel"),
        ({"std": []}, r"preprocessing.json.std: expected 1 numbers, one for each channel"),
        ({"std": [0]}, r"preprocessing.json.std\[0\]: expected a number from 1e-06"),
        ({"crop_size": 3}, r"preprocessing.json.crop_size: 3 is more than the image_size 2"),
        ({"channels": 2, "mean": [0, 0], "std": [1, 1]}, r"preprocessing.json.channels: expected 1 \(grey\) or 3"),
        ({"crop_size": [2, 3]}, r"preprocessing.json.crop_size: \[2, 3\] is more than the image_size 2"),
        ({"image_size": [2]}, r"preprocessing.json.image_size: expected a side, or height and width, got 1 numbers"),
        ({"image_size": [2, 3, 4]}, r"preprocessing.json.image_size: expected a list of at most 2 items"),
        ({"resolution": [2, 0]}, r"preprocessing.json.resolution\[1\]: expected a whole number from 1 to 4096"),
        ({"resolution": [4096, 4096]}, r"a run of 64 images takes 4294967296 bytes, allowed are 1073741824"),
        (
            {"image_size": [4096, 2], "crop_size": [4096, 2], "resolution": [2, 4096]},
            r"a run of 64 images takes 4294967296 bytes, allowed are 1073741824",
        ),
        ({"resolution": 4096}, r"a run of 64 images takes 4294967296 bytes, allowed are 1073741824"),
        ({"image_size": 4096}, r"a run of 64 images takes 4294967296 bytes, allowed are 1073741824"),
    ],
)
def test_preprocessing_that_cannot_be_is_refused(tmp_path, changes, message):
    content = json.dumps(dict(PREPROCESSING, **changes)).encode()
    with pytest.raises(InvalidRequest, match=message):
        bundle.read(write_bundle(tmp_path, manifest(batch=64), {"preprocessing.json": content}))


def test_images_of_a_bundle_may_be_rectangles(tmp_path):
    settings = dict(PREPROCESSING, image_size=[4, 6], crop_size=[4, 6], resolution=[2, 3])
    read = bundle.read(write_bundle(tmp_path, manifest(), {"preprocessing.json": json.dumps(settings).encode()}))
    assert (read.preprocessing["image_size"], read.preprocessing["resolution"]) == ([4, 6], [2, 3])
    assert bundle.bytes_of_image(read.preprocessing) == 4 * 4 * 6


HOSTILE_JSON = {
    "deep": b'{"schema": ' + b"[" * 100000 + b"]" * 100000 + b"}",
    "huge number": b'{"schema": ' + b"9" * 100000 + b"}",
    "NaN": b'{"schema": NaN}',
    "infinity": b'{"schema": 1e999}',
    "half a character": b'{"schema": "\\ud800"}',
    "not UTF-8": b'{"schema": "\xff"}',
    "twice": b'{"schema": 3, "schema": 3}',
    "long": b'{"schema": "' + b"x" * (4 << 20) + b'"}',
}


@pytest.mark.parametrize("content", HOSTILE_JSON.values(), ids=HOSTILE_JSON)
@pytest.mark.parametrize("name", ["bundle.json", "preprocessing.json", "labels.json"])
def test_hostile_json_is_one_line(folder, tmp_path, name, content):
    (tmp_path / "tiny" / name).write_bytes(content)
    with pytest.raises(InvalidRequest, match=name) as caught:
        bundle.read(folder)
    assert len(str(caught.value)) < 400 + len(folder)


def test_a_manifest_that_is_not_json_is_refused(folder, tmp_path):
    (tmp_path / "tiny" / "bundle.json").write_text("{")
    with pytest.raises(InvalidRequest, match=r"bundle.json is not JSON: "):
        bundle.read(folder)


def test_a_zip_is_unpacked_for_as_long_as_it_is_needed(folder, tmp_path):
    path = str(tmp_path / "tiny.zip")
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("bundle.json", "preprocessing.json", "labels.json", "model.onnx", "SHA256SUMS"):
            archive.write(str(tmp_path / "tiny" / name), "tiny/" + name)
    with bundle.opened(path) as unpacked:
        assert bundle.damaged(unpacked) == (4, [])
        assert bundle.read(unpacked).manifest.name == "tiny-trial-1"
