"""`vitsearch-agent verify` with a real runtime in real processes."""

import json
import socket
import sys

import pytest

from support.bundles import QUALITIES, embedding_files, image_files, manifest, manifest_of, saved, write_bundle
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
    assert {line.split()[0] for line in lines[4:8]} == {"user", "files", "network", "processes"}
    assert lines[8] == "bundle tiny-trial-1: passed"


def test_a_terminal_is_cleared_of_the_progress_before_the_checks_are_printed(folder, capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert app.main(["verify", folder, "--no-measure"]) == 0
    shown = capsys.readouterr().err
    assert "tiny-trial-1: outputs" in shown
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


@pytest.fixture
def checked(tmp_path, capsys):
    """checked(kind of task, changes of the files, options, changes of the manifest) -> exit code, lines by check."""
    pytest.importorskip("numpy")
    pytest.importorskip("onnxruntime")

    def checked(kind="embedding", files=(), options=(), name="other", **changes):
        folder = write_bundle(
            tmp_path / name, manifest_of(kind, figures={}, **changes), dict(embedding_files(), **dict(files))
        )
        code = app.main(["verify", folder, "--no-measure", "--json", *options])
        printed = capsys.readouterr()
        if code == 2:
            return code, printed.err
        return code, {check["name"]: check for check in json.loads(printed.out)["checks"]}

    return checked


def test_an_embedding_is_judged_by_its_reference(checked):
    code, lines = checked()
    assert code == 0
    assert lines["outputs"]["message"].startswith("every image gets the output that it was shipped with: least cosine ")
    expected = "mean 1.0000 on the images in the bundle; shipped: 0.9000 (0.8000 to 1.0000) on 4 test images"
    assert lines["cosine"]["message"] == lines["neighbours"]["message"] == expected


def embeddings(change):
    import numpy

    values = numpy.full((4, 4), 10, numpy.float32)
    values[numpy.arange(4), numpy.arange(4)] = 200
    change(values)
    return saved((values / 255).astype("<f4"))


def test_an_embedding_that_was_shipped_otherwise_fails(checked):
    def turn(values):
        values[2] = [200, 10, 10, 10]

    code, lines = checked(files={"images/outputs.npy": embeddings(turn)})
    assert code == 1
    assert [name for name, check in lines.items() if check["outcome"] == "failed"] == ["outputs"]
    message = "1 of 4 images gets another output than when shipped: cosine below 0.999, the worst 0.1042 (image 2)"
    assert lines["outputs"]["message"] == message


def test_an_embedding_below_the_shipped_likeness_fails(checked):
    def turn(values):
        values[:] = values[::-1].copy()

    code, lines = checked(files={"images/reference.npy": embeddings(turn)})
    assert code == 1
    assert (lines["outputs"]["outcome"], lines["cosine"]["outcome"]) == ("passed", "failed")


def test_a_likeness_without_an_interval_is_not_judged(checked):
    alone = {"value": 1.0, "low": None, "high": None, "n": 4}
    qualities = dict(QUALITIES, on_images={"cosine": alone, "neighbours": alone})
    code, lines = checked(qualities=qualities)
    assert code == 0
    assert lines["cosine"]["outcome"] == "not judged"
    assert lines["cosine"]["message"].endswith("shipped: 1.0000 on 4 test images; it has no interval to judge by")


def test_another_task_is_judged_by_the_outputs_shipped(checked):
    qualities = dict(QUALITIES, on_images={"iou": {"value": 0.7, "low": 0.6, "high": 0.8, "n": 4}})
    code, lines = checked("depth-map", qualities=qualities)
    assert code == 0
    assert lines["outputs"]["message"].startswith("the outputs of 4 images differ from those shipped by at most ")
    assert lines["metrics"]["outcome"] == "not judged"
    assert lines["metrics"]["message"] == (
        "the metrics of the task depth-map are not computed here; shipped: iou 0.7000 (0.6000 to 0.8000)"
    )

    def add(values):
        values[1, 2] += 10

    code, lines = checked("depth-map", {"images/outputs.npy": embeddings(add)}, qualities=qualities)
    assert code == 1
    assert lines["outputs"]["message"].endswith("by at most 0.05 of the largest; allowed: 0.02")


def test_outputs_of_another_shape_fail(checked):
    numpy = pytest.importorskip("numpy")
    code, lines = checked("depth", {"images/outputs.npy": saved(numpy.zeros((4, 2, 2), "<f4"))})
    assert code == 1
    assert lines["outputs"]["message"].endswith("each image gets outputs of shape [4], shipped were [2, 2]")


def test_an_embedding_without_images_is_not_judged(checked):
    code, lines = checked(qualities=dict(QUALITIES, images=None, on_images={}))
    assert code == 0
    assert lines["outputs"]["message"] == "the bundle has no images (--no-images)"


def test_other_images_judge_only_classifiers(checked, tmp_path):
    code, line = checked(options=("--data", str(tmp_path)))
    assert code == 2
    assert "only a classifier is judged by other images; the task of this bundle is embedding" in line


def test_an_embedding_is_compared_with_a_baseline(checked, folder, tmp_path):
    better = {"value": 1.0, "low": 0.99, "high": 1.0, "n": 4}
    qualities = dict(QUALITIES, on_images={"cosine": better, "neighbours": better})
    assert checked(name="old", qualities=qualities)[0] == 0
    code, lines = checked(options=("--baseline", str(tmp_path / "old")))
    assert code == 0
    assert (
        lines["baseline cosine"]["message"] == "mean 1.0000; the baseline: 1.0000 (0.9900 to 1.0000) on the same images"
    )

    checked(name="without", qualities=dict(QUALITIES, images=None, on_images={}))
    code, lines = checked(options=("--baseline", str(tmp_path / "without")))
    assert lines["baseline neighbours"]["message"].endswith("(0.8000 to 1.0000) on 100 images of its own")

    code, line = checked(options=("--baseline", folder))
    assert code == 2
    assert "its task is classification, that of the bundle is embedding" in line


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
