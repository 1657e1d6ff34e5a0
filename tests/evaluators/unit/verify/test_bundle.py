"""Bundles are read strictly, and every error says which file is wrong and how."""

import zipfile

import pytest

from support.bundles import manifest, write_bundle
from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.verify import bundle


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "tiny", manifest())


def test_a_bundle_is_read(folder):
    found = bundle.read(folder)
    assert found.manifest.name == "tiny-trial-1"
    assert found.manifest.accuracy == bundle.Counted("test", 100, 90)
    assert found.manifest.figures["latency_ms_p50"].high == 1.1
    assert found.labels[3] == "south east"
    assert list(found.model_files) == ["model.onnx"]


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
    wrong = ["PIL/__init__.py was added", "numpy.py was added", "onnxruntime was added"]
    assert bundle.damaged(folder) == (4, wrong)


def test_what_running_the_example_makes_is_no_damage(folder, tmp_path):
    (tmp_path / "tiny" / "__pycache__").mkdir()
    (tmp_path / "tiny" / "__pycache__" / "preprocessing.cpython-311.pyc").write_bytes(b"")
    assert bundle.damaged(folder) == (4, [])


@pytest.mark.parametrize("line", ["nonsense", "{}  ../outside".format("0" * 64), "{}  /etc/passwd".format("0" * 64)])
def test_a_list_of_checksums_with_other_lines_is_refused(folder, tmp_path, line):
    with open(str(tmp_path / "tiny" / "SHA256SUMS"), "a") as stream:
        stream.write(line + "\n")
    with pytest.raises(InvalidRequest, match="SHA256SUMS: expected a line 'sha256  name' for each file of the bundle"):
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
        ({"schema": 3}, r"bundle.json.schema: expected a whole number from 2 to 2, got 3"),
        ({"model": "../model.onnx"}, r"bundle.json.model: '../model.onnx' is not one of model.onnx, model.xml"),
        ({"figures": {"cpu_ms_p50": {}}}, r"bundle.json.figures.cpu_ms_p50: missing high, low, value"),
        ({"artifact_key": "x"}, r"bundle.json.artifact_key: expected 64 lower-case hex digits, got 'x'"),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path, changes, message):
    with pytest.raises(InvalidRequest, match=message):
        bundle.read(write_bundle(tmp_path, manifest(**changes)))


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
