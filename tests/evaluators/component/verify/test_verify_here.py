"""`vitsearch-agent verify` with a real runtime in real processes."""

import json

import pytest

from support.bundles import image_files, manifest, write_bundle
from vitsearch_evaluators.cli import app
from vitsearch_evaluators.verify import checks

FAST = {"value": 1000.0, "low": 900.0, "high": 1100.0}


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("numpy")
    pytest.importorskip("onnxruntime")
    described = manifest(figures={"latency_ms_p50": FAST}, device=device_here())
    return write_bundle(tmp_path / "tiny", described, image_files())


def device_here():
    from vitsearch_evaluators.base.system import THIS_MACHINE
    from vitsearch_evaluators.conditions.environment import fingerprint

    return {"name": "local", "kind": "physical", "environment": fingerprint("0", (), THIS_MACHINE)}


def test_an_intact_bundle_passes(folder, capsys):
    assert app.main(["verify", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "passed      files           7 files have the checksums that they were shipped with"
    assert lines[1].startswith("passed      accuracy        4 of 4 correct (1.0000) of the images in the bundle")
    assert lines[1].endswith("every image gets the same class as when shipped")
    assert lines[2].startswith("passed      latency_ms_p50  ")
    assert lines[3] == "bundle tiny-trial-1: passed"


def test_a_slower_machine_fails(tmp_path, folder, capsys, monkeypatch):
    monkeypatch.setattr(checks, "DISTURBED", ())  # other tests run beside this one
    slow = manifest(figures={"latency_ms_p50": {"value": 1e-9, "low": 1e-9, "high": 1e-9}}, device=device_here())
    other = write_bundle(tmp_path / "other", slow, image_files())
    assert app.main(["verify", other, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert not report["passed"]
    assert [check["outcome"] for check in report["checks"]] == ["passed", "passed", "failed"]


def test_an_image_that_gets_another_class_is_counted(tmp_path, folder, capsys):
    numpy = pytest.importorskip("numpy")
    files = image_files()
    images = numpy.load(tmp_path / "tiny" / "images" / "images.npy")
    numpy.save(tmp_path / "swapped.npy", images[[1, 0, 2, 3]])
    files["images/images.npy"] = (tmp_path / "swapped.npy").read_bytes()
    described = manifest(figures={}, images={"split": "test", "n": 4, "correct": 2})
    other = write_bundle(tmp_path / "other", described, files)
    assert app.main(["verify", other, "--no-measure"]) == 0
    said = capsys.readouterr().out
    assert "2 of 4 correct (0.5000)" in said
    assert "2 images get another class than when shipped" in said


def test_a_baseline_with_the_same_images_is_compared_on_these(tmp_path, folder, capsys):
    numpy = pytest.importorskip("numpy")
    files = image_files()
    numpy.save(str(tmp_path / "predictions.npy"), numpy.array([0, 1, 2, 0], "<i8"))
    files["images/predictions.npy"] = (tmp_path / "predictions.npy").read_bytes()
    described = manifest(figures={}, images={"split": "test", "n": 4, "correct": 3})
    old = write_bundle(tmp_path / "old", described, files)
    assert app.main(["verify", folder, "--no-measure", "--baseline", old]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "baseline accuracy" in line]
    assert "the baseline: 0.7500 " in line
    assert line.endswith(" on the same images; 1 image gets another class than from the baseline")


def test_a_baseline_without_images_is_compared_by_its_own(tmp_path, folder, capsys):
    old = write_bundle(tmp_path / "old", manifest(figures={}, images=None))
    assert app.main(["verify", folder, "--no-measure", "--baseline", old]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "baseline accuracy" in line]
    assert line.endswith("; the baseline: 0.9000 (0.8256 to 0.9448) on 100 test images of its own")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "no images; expected"),
        (lambda root: (root / "north").mkdir(), "the folder 'north' is not a class of the model; its classes are "),
    ],
)
def test_a_folder_that_does_not_fit_is_refused(folder, tmp_path, capsys, make, message):
    pytest.importorskip("PIL")
    root = tmp_path / "data"
    root.mkdir()
    make(root)
    assert app.main(["verify", folder, "--data", str(root)]) == 2
    assert message in capsys.readouterr().err


def test_a_file_that_is_no_image_is_named(folder, tmp_path, capsys):
    pytest.importorskip("PIL")
    path = tmp_path / "data" / "north west" / "broken.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"nothing")
    assert app.main(["verify", folder, "--data", str(tmp_path / "data")]) == 2
    assert "broken.png cannot be read: " in capsys.readouterr().err


def test_a_report_that_cannot_be_written_is_an_error(folder, tmp_path, capsys):
    asked = ["verify", folder, "--no-measure", "--junit", str(tmp_path / "no" / "junit.xml")]
    assert app.main(asked) == 2
    assert "junit.xml cannot be written: No such file or directory" in capsys.readouterr().err
