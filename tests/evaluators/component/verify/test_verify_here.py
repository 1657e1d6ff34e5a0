"""`vitsearch-agent verify` with a real runtime in real processes."""

import json
import socket
import sys

import pytest

from support.bundles import image_files, manifest, write_bundle
from vitsearch_agent.cli import app
from vitsearch_agent.verify import checks

FAST = {"value": 1000.0, "low": 900.0, "high": 1100.0}


@pytest.fixture
def folder(tmp_path):
    pytest.importorskip("numpy")
    pytest.importorskip("onnxruntime")
    described = manifest(figures={"latency_ms_p50": FAST}, device=device_here())
    return write_bundle(tmp_path / "tiny", described, image_files())


def device_here():
    from vitsearch_agent.base.system import THIS_MACHINE
    from vitsearch_agent.conditions.environment import fingerprint

    return {"name": "local", "kind": "physical", "environment": fingerprint("0", (), THIS_MACHINE)}


def test_an_intact_bundle_passes(folder, capsys):
    assert app.main(["verify", folder]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "passed      files           7 files have the checksums that they were shipped with"
    assert lines[1].startswith("passed      accuracy        4 of 4 correct (1.0000) of the images in the bundle")
    assert lines[1].endswith("every image gets the same class as when shipped")
    assert lines[2].startswith("passed      latency_ms_p50  ")
    assert lines[3] == "What the model was kept from while it ran:"
    assert [line.split()[0] for line in lines[4:7]] == ["user", "files", "network"]
    assert lines[7] == "bundle tiny-trial-1: passed"


def test_a_terminal_is_cleared_of_the_progress_before_the_checks_are_printed(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert app.main(["verify", folder, "--no-measure"]) == 0
    shown = capsys.readouterr().err
    assert "tiny-trial-1: accuracy" in shown
    assert shown.endswith("\r\x1b[K")


def test_what_was_not_measured_is_said(folder, capsys):
    assert app.main(["verify", folder, "--no-measure"]) == 0
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict == "bundle tiny-trial-1: passed (nothing was measured: --no-measure)"


UNJUDGED = {
    "noop": ({"runtime": "noop", "options": {}}, []),
    "no tool": ({"runtime": "trtexec", "options": {"precision": "fp16"}}, ["--program", "/nowhere/trtexec"]),
}


@pytest.mark.parametrize(("changes", "more"), UNJUDGED.values(), ids=UNJUDGED)
def test_where_only_checksums_were_judged_an_exit_code_of_its_own_says_so(tmp_path, capsys, changes, more):
    other = write_bundle(tmp_path / "other", manifest(images=None, **changes))
    assert app.main(["verify", other, *more]) == 3
    assert capsys.readouterr().out.splitlines()[-1] == "bundle tiny-trial-1: only checksums judged"
    assert app.main(["verify", other, "--no-measure", *more]) == 0
    verdict = capsys.readouterr().out.splitlines()[-1]
    assert verdict == "bundle tiny-trial-1: only checksums judged (nothing was measured: --no-measure)"
    assert app.main(["verify", other, "--json", *more]) == 3
    report = json.loads(capsys.readouterr().out)
    assert not report["passed"]
    assert report["verdict"] == "only checksums judged"


@pytest.fixture
def reached(faulty_environment, tmp_path, monkeypatch, capsys):
    """reached(name=[kind of access, path or port], ...) -> the names of what the model of a bundle could do."""
    monkeypatch.syspath_prepend(faulty_environment)

    def reached(**wanted):
        options = {"fault": "reach", "gate": json.dumps(wanted)}
        path = write_bundle(tmp_path / "hostile", manifest(runtime="faults", options=options, images=None))
        assert app.main(["verify", path, "--json"]) == 1
        report = json.loads(capsys.readouterr().out)
        (message,) = [check["message"] for check in report["checks"] if check["name"] == "measurement"]
        holds = {restriction["name"]: restriction["holds"] for restriction in report["restrictions"]}
        return set(message.partition("reached: ")[2].split()), holds

    return reached


def test_the_model_of_a_bundle_is_kept_from_the_files_of_this_user(reached, tmp_path, monkeypatch):
    home = tmp_path / "home"
    for name in (".ssh/id_ed25519", ".config/vitsearch/devices.json"):
        (home / name).parent.mkdir(parents=True)
        (home / name).write_text("secret")
    (home / "photo").write_text("ours")
    monkeypatch.setenv("HOME", str(home))
    names, holds = reached(
        key=["r", str(home / ".ssh" / "id_ed25519")],
        tokens=["r", str(home / ".config" / "vitsearch" / "devices.json")],
        new_file=["w", str(home / "new")],
        photo=["a", str(home / "photo")],
        bundle=["a", str(tmp_path / "hostile" / "README.md")],
        temporary=["w", str(tmp_path / "new")],
        program=["a", __file__],
        own_folder=["w", "scratch"],
        own_model=["r", "model.onnx"],
        own_temporary_folder=["temporary", ""],
    )
    if not holds["files"]:
        pytest.skip("this kernel has no Landlock")
    assert names == {"own_folder", "own_model", "own_temporary_folder"}


def test_the_model_of_a_bundle_is_kept_from_the_network(reached):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        names, holds = reached(server=["connect", listener.getsockname()[1]])
    if not holds["network"]:
        pytest.skip("this kernel has neither namespaces nor Landlock")
    assert names == set()


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
    command = ["verify", folder, "--no-measure", "--junit", str(tmp_path / "no" / "junit.xml")]
    assert app.main(command) == 2
    assert "junit.xml cannot be written: No such file or directory" in capsys.readouterr().err
