"""The files of a bundle: complete, the same every time, and true to what the agent reads."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import numpy as np
import onnx
import pytest

from support.marks import long
from vitsearch.cli.bundles import summary
from vitsearch.core.figures import Metrics
from vitsearch.core.plan import Compression
from vitsearch.export import metadata
from vitsearch.ship.bundled_model import SplitResult, Standing
from vitsearch.ship.card import card
from vitsearch.ship.contents import contents
from vitsearch.ship.ship import Bundle
from vitsearch.ship.writing import write
from vitsearch.study.front import Point
from vitsearch.tasks import CLASSIFICATION, Tally
from vitsearch.tasks.classification.confusion import Confusion
from vitsearch.tasks.classification.task import judged_counts
from vitsearch.tasks.embedding.task import EMBEDDING
from vitsearch_agent.base.printable import printable
from vitsearch_agent.cli import app as agent
from vitsearch_agent.verify import bundle
from vitsearch_agent.verify.checks import FAILED, PASSED
from vitsearch_agent.verify.model_runner import LocalRunner, ModelRunner
from vitsearch_agent.verify.verify import VerifyOptions, verify


def counted(split, counts, names):
    """What classification makes of these confusion counts of a split."""
    judged = judged_counts(counts, names)
    return SplitResult(split, counts.n, Metrics(judged.figures), Tally(CLASSIFICATION, judged.tally, names))


@pytest.fixture(scope="module")
def task(make_task):
    return make_task(False, 40, 32)


@pytest.fixture
def folder(task, tmp_path):
    write("tiny", contents(task.model, with_images=True), tmp_path / "bundle")
    return tmp_path / "bundle"


def test_a_bundle_holds_everything_that_a_user_needs(folder):
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "README.md",
        "SHA256SUMS",
        "bundle.json",
        "example.cpp",
        "example.py",
        "images/0.png",
        "images/1.png",
        "images/2.png",
        "images/images.npy",
        "images/labels.npy",
        "images/predictions.npy",
        "labels.json",
        "measurements.json",
        "model.onnx",
        "plan.json",
        "preprocessing.json",
        "preprocessing.py",
        "provenance.json",
        "requirements.txt",
        "vitsearch-agent.pyz",
    ]


def test_a_second_bundle_is_byte_for_byte_the_same(task, tmp_path):
    first, other = (write("tiny", contents(task.model, True), tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == other


ROOTS = rb"home|root|tmp|usr|opt|var|etc|mnt|srv|data|media|Users"
PATH = re.compile(rb"file:[~/]|(?<![\w.:/<>-])(~|/(" + ROOTS + rb"))/[\w.]", re.ASCII)
"""The beginning of a path of a machine, in a text or in the metadata of a model."""
MADE_ELSEWHERE = (".npy", ".png", ".pyz")
"""Pixels, in which any bytes may stand; the agent, which is the same program in every bundle."""


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", *long("tensorrt", "litert", "executorch", "coreml")])
@pytest.mark.parametrize("path", ["~/secret/best.safetensors", "/home/adalovelace/secret/best.safetensors"])
def test_a_bundle_has_no_date_and_no_path_of_a_machine(make_task, tmp_path, runtime, path):
    model = make_task(False, 40, 32, runtime).model
    plan = replace(model.final.plan, weights=f"file:{path}")
    source = {"source": "hfds//home/adalovelace/images", "root": "/home/adalovelace/secret"}
    model = replace(model, final=replace(model.final, plan=plan), source=source)
    write("tiny", contents(model, with_images=True), tmp_path / "bundle")
    words = [str(tmp_path.parent), str(model.path.parent.parent), "secret", "adalovelace"]
    for file in (file for file in (tmp_path / "bundle").rglob("*") if file.is_file()):
        content = file.read_bytes()
        assert b"started_at" not in content
        if file.suffix not in MADE_ELSEWHERE:
            assert PATH.search(content) is None, f"{file.name}: {PATH.search(content)}"
            assert [word for word in words if word.encode() in content] == [], file.name


def test_weights_of_a_file_are_told_by_its_name_and_digest(task):
    plan = replace(task.model.final.plan, weights="file:~/secret/best.safetensors")
    files = contents(replace(task.model, final=replace(task.model.final, plan=plan)), with_images=False)
    (weights,) = (
        component for component in json.loads(files["provenance.json"])["components"] if component["type"] == "weights"
    )
    assert (weights["source"], weights["file"], weights["sha256"]) == ("file", "best.safetensors", "ef" * 32)
    assert json.loads(files["plan.json"])["weights"] == "file:best.safetensors"
    said = f"- starting weights: `levit_128s`, file best.safetensors, SHA-256 `{'ef' * 32}`"
    assert said in files["README.md"].decode()


INVISIBLE = "x\x1b[2J\x07\r\n\t\x7f\x9b31m\u200e\u200f\u202a\u202e\u2066\u2069'\"\\"
VISIBLE = "x\\x1b[2J\\x07\\r\\n\\t\\x7f\\x9b31m\\u200e\\u200f\\u202a\\u202e\\u2066\\u2069"


@pytest.fixture
def hostile(task):
    """A model in whose names everything stands that a terminal obeys: labels, study, device, backbone, versions."""
    names = [f"{name}{INVISIBLE}" for name in task.model.data["class_names"]]
    model, plan = task.model, replace(task.model.final.plan, backbone=f"vit{INVISIBLE}")
    baseline = Point(None, plan, model.final.keys, Metrics.of({"accuracy": 0.5}))
    device = {"name": f"board{INVISIBLE}", "fingerprint": {"cpu": f"chip{INVISIBLE}"}}
    return replace(
        model,
        study=f"study{INVISIBLE}",
        target=f"there{INVISIBLE}",
        final=replace(model.final, plan=plan),
        data=model.data | {"class_names": names},
        validation=counted("validation", Confusion(((0, 0, 40), (1, 0, 9), (1, 1, 1), (2, 2, 20), (3, 3, 20))), names),
        device=model.device | device,
        measurements=tuple(
            measurement._replace(runtime_version=f"1.2{INVISIBLE}") for measurement in model.measurements
        ),
        versions={f"torch{INVISIBLE}": f"2{INVISIBLE}"},
        standing=Standing(f"dominated{INVISIBLE}", ("accuracy",), baseline),
    )


def test_no_file_for_people_has_a_character_that_nobody_sees(hostile):
    files = contents(hostile, with_images=False)
    texts = {name: content.decode() for name, content in files.items() if name.endswith(TEXTS)}
    assert texts.keys() >= {"README.md", "example.py", "example.cpp", "requirements.txt", "labels.json", "bundle.json"}
    for name, text in texts.items():
        assert {character for character in text if not character.isprintable()} == {"\n"}, name


TEXTS = (".md", ".py", ".cpp", ".txt", ".json", "SHA256SUMS")


def test_the_labels_of_a_bundle_are_the_true_ones(hostile):
    files = contents(hostile, with_images=False)
    assert json.loads(files["labels.json"]) == hostile.data["class_names"]
    classes = json.loads(files["measurements.json"])["qualities"]["test"]["classes"]
    assert list(classes) == sorted(hostile.data["class_names"])
    assert json.loads(files["bundle.json"])["device"]["name"] == f"board{INVISIBLE}"


def test_the_metadata_of_a_model_has_the_true_labels_as_escapes(hostile):
    said = metadata.describe("ab" * 32, {}, tuple(hostile.data["class_names"]))["labels"]
    assert json.loads(said) == hostile.data["class_names"]
    assert all(text.isprintable() for text in said)


def test_the_card_shows_what_nobody_sees_as_escapes(hostile):
    said = contents(hostile, with_images=False)["README.md"].decode()
    assert f"# study{VISIBLE}".replace("\\", "\\\\").replace("[", "\\[") in said
    assert said.count("\n# ") == 0  # no line break of a name begins a heading


def test_the_example_shows_the_label_as_one_line(hostile, task, without_vitsearch, tmp_path):
    files = contents(hostile, with_images=True)
    write("tiny", files | {"requirements.txt": b""}, tmp_path / "bundle")
    done = without_vitsearch(tmp_path / "bundle", "example.py", "images/0.png")
    assert done.returncode == 0, done.stderr
    ((_, label, _),) = (line.split("\t") for line in done.stdout.splitlines())
    predicted = hostile.data["class_names"][np.load(hostile.outputs)[0].argmax()]
    assert label == printable(predicted)
    assert label.endswith(VISIBLE + "'\"\\")


def test_the_example_leaves_the_bundle_as_it_is(folder, without_vitsearch):
    without_vitsearch(folder, "example.py", "images/0.png")
    assert not list(folder.rglob("__pycache__"))


def test_a_version_that_a_device_makes_up_does_not_enter_the_requirements(hostile):
    assert contents(hostile, with_images=False)["requirements.txt"] == b"numpy\npillow\nonnxruntime\n"


def test_the_summary_of_a_ship_is_visible(hostile, tmp_path):
    said = summary(Bundle(tmp_path / f"here{INVISIBLE}", tmp_path / "here.zip", hostile))
    assert all(line.isprintable() for line in said.split("\n"))
    assert VISIBLE in said


def test_the_agent_reproduces_the_accuracy_to_the_image(folder):
    report = verify(str(folder), LocalRunner, VerifyOptions(measures=False))
    files, accuracy = report.checks
    assert (files.outcome, accuracy.outcome) == (PASSED, PASSED)
    assert accuracy.message.endswith("on 20 test images; every image gets the same class as when shipped")


def test_the_same_images_as_files_have_the_same_accuracy(task, folder, pictures, tmp_path):
    pictures(tmp_path / "files" / "test", 24, 40, False, 2000)  # those of the task's test split
    (_, accuracy) = verify(str(folder), LocalRunner, VerifyOptions(str(tmp_path / "files"), measures=False)).checks
    judged = task.model.judged
    assert accuracy.message.startswith(f"{round(judged.metrics.value('accuracy') * judged.n)} of {judged.n} correct")


def test_a_bundle_without_images_is_verified_on_a_folder_alone(task, tmp_path):
    write("tiny", contents(task.model, with_images=False), tmp_path / "bundle")
    (_, accuracy) = verify(str(tmp_path / "bundle"), LocalRunner, VerifyOptions(measures=False)).checks
    assert accuracy.message == "the bundle has no images (--no-images): give a folder with --data"


def test_what_was_changed_is_not_run(folder):
    (folder / "model.onnx").write_bytes(b"another")

    def never(opened: bundle.Bundle) -> ModelRunner:
        raise AssertionError("a changed model must not be run")

    (check,) = verify(str(folder), never).checks
    assert check.outcome == FAILED
    assert check.message == "not the 19 files that were shipped: model.onnx was changed"


@pytest.mark.long
def test_the_command_of_the_agent_measures_and_passes(folder, capsys):
    code = agent.main(["verify", str(folder), "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == 0, report
    assert {check["name"] for check in report["checks"]} == {"files", "accuracy", "latency_ms_p50"}


@pytest.mark.long
def test_the_command_of_the_card_verifies_where_nothing_of_vitsearch_is_installed(folder, without_vitsearch):
    (command,) = re.findall(r"python (vitsearch-agent\.pyz verify \.)\n", (folder / "README.md").read_text())
    done = without_vitsearch(folder, *command.split(), "--no-measure")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("passed      files     19 files have the checksums that they were shipped with\n")


def test_the_card_says_what_speaks_for_the_model(task):
    plan = replace(task.model.final.plan, backbone="unpruned_vit")
    metrics = Metrics.of({"accuracy": 0.5, "latency_ms_p50": 8.0, "size_mb": None})
    baseline = Point(None, plan, task.model.final.keys, metrics)
    standing = Standing("on the front, its knee", ("accuracy", "latency_ms_p50", "size_mb"), baseline)
    validation = counted("validation", Confusion(((0, 0, 15), (0, 1, 9))), task.images.class_names)
    text = card(replace(task.model, standing=standing, validation=validation), True)
    assert (
        "Beside the unpruned baseline (unpruned\\_vit@32 fp32): 25 % of its latency, median (2 of 8 ms); "
        "+12.50 points of accuracy on the validation images (0.6250, baseline 0.5000).\n\n"
        "Place: on the front, its knee.\n"
    ) in text


def test_the_card_says_what_accuracy_is_without_labels(task):
    text = card(replace(task.model, labelled_by="their_net"), True)
    assert "\n**Here accuracy is the agreement with the fp32 outputs of their\\_net itself in onnxruntime, as " in text
    assert "no labels" not in card(task.model, True)
    without_images = card(replace(task.model, labelled_by="their_net"), False)
    assert "# FOLDER/CLASS/*.jpg, by the class that their_net gives in fp32; needs pillow" in without_images


def test_the_card_names_other_images_for_a_classifier_only(task):
    assert "python vitsearch-agent.pyz verify . --data FOLDER " in card(task.model, False)
    embedding = replace(task.model, task=EMBEDDING, quality="cosine")
    text = card(embedding, False)
    assert (
        "\npython vitsearch-agent.pyz verify .\n```\n\nThe bundle has no images, so its outputs are not judged." in text
    )
    assert "checks the files, the outputs and the measurements" in text
    assert "no images" not in card(embedding, True)


def test_the_card_explains_the_accuracy_that_verify_finds(task):
    figures = (Metrics.of({"accuracy": value}) for value in (0.6, 0.75))
    shipped = replace(task.model.shipped, n=40, **dict(zip(("figures", "on_images"), figures, strict=True)))
    text = " ".join(card(replace(task.model, shipped=shipped), True).split())
    assert "It runs 20 of the 40 test images, those in `images/`. On these accuracy is 0.7500, " in text
    assert "on all of them 0.6000." in text
    assert "It runs" not in card(replace(task.model, shipped=shipped), False)


def test_the_card_names_the_runtime_of_the_device(task):
    assert "\n- runtime on the device: onnxruntime 10.3.0\n" in card(task.model, True)


def test_the_card_calls_a_model_compressed_only_if_something_was_cut(task):
    whole = "4 classes, the unpruned `levit_128s`, exported by vitsearch (trial 7 of study tiny)"
    assert whole in card(task.model, True)
    plan = replace(task.model.final.plan, compression=Compression(head_pruning_ratio=0.5))
    cut = replace(task.model, final=replace(task.model.final, plan=plan))
    assert "4 classes, compressed from `levit_128s` by vitsearch (trial 7 of study tiny)" in card(cut, True)


@pytest.mark.parametrize(("rung", "words"), [(0, ""), (1, "fine-tuned and ")])
def test_the_card_says_that_an_uncut_model_was_trained(task, rung, words):
    model = replace(task.model, final=replace(task.model.final, rung=rung))
    assert f"the unpruned `levit_128s`, {words}exported by vitsearch" in card(model, True)


def test_the_card_says_which_figures_are_those_of_a_quiet_machine(task):
    """Beside a median of 0.1776 ms stood a 95th percentile of 2.468 ms and 2,064 images a second."""
    shared = replace(
        task.model, measurements=tuple(measurement._replace(basis="paired") for measurement in task.model.measurements)
    )
    assert "as they were read, beside other work" in card(shared, True)
    assert "as they were read" not in card(task.model, True)


def test_the_card_names_no_package_that_somebody_else_could_register(folder):
    lines = re.findall(r"^pip install (.*)$", (folder / "README.md").read_text(), re.MULTILINE)
    assert set(lines) == {"-r requirements.txt"}
    assert (folder / "requirements.txt").read_text() == "numpy\npillow\nonnxruntime==10.3.0\n"


def test_an_earlier_bundle_that_was_more_accurate_raises_the_alarm(task, folder, tmp_path, capsys):
    shipped = task.model.shipped
    better = replace(task.model, shipped=replace(shipped, n=1000, figures=Metrics.of({"accuracy": 0.999})))
    write("tiny", contents(better, with_images=False), tmp_path / "old")
    junit = tmp_path / "junit.xml"
    code = agent.main(
        ["verify", str(folder), "--no-measure", "--baseline", str(tmp_path / "old"), "--junit", str(junit)]
    )
    assert code == 1
    assert "failed      baseline accuracy" in capsys.readouterr().out
    assert 'failures="1"' in junit.read_text()


def test_the_model_itself_says_what_its_input_is(task, folder):
    said = {entry.key: entry.value for entry in onnx.load(folder / "model.onnx").metadata_props}
    assert json.loads(said["vitsearch.preprocessing"]) == json.loads((folder / "preprocessing.json").read_text())
    assert json.loads(said["vitsearch.labels"]) == list(task.images.class_names)
    assert said["vitsearch.artifact_key"] == json.loads((folder / "bundle.json").read_text())["artifact_key"]


def test_data_without_test_images_is_judged_by_the_validation_images_and_says_so(make_task):
    task = make_task(True, 28, 28, test=False)
    files = contents(task.model, with_images=True)
    assert task.model.on_test is None
    assert b"The data has no test images." in files["README.md"]
    described = json.loads(files["bundle.json"])
    assert (described["task"], described["accuracy"]["split"]) == ({"kind": "classification"}, "validation")
    assert json.loads(files["measurements.json"])["qualities"].keys() == {"validation"}


def test_the_card_has_the_warnings_of_the_front(task):
    model = replace(task.model, warnings=("int8_static in name only: 0 % of its MACs",))
    said = contents(model, with_images=False)["README.md"].decode()
    assert "**int8\\_static in name only: 0 % of its MACs.**" in said


def test_the_card_says_what_the_accuracy_hides(task):
    rare = Confusion(((0, 0, 40), (1, 0, 9), (1, 1, 1), (2, 2, 20)))
    names = ["none", "scratch", "local"]
    validation, figures = counted("validation", rare, names), Metrics(judged_counts(rare, names).figures)
    shipped = replace(task.model.shipped, figures=figures, tally=rare.to_json(), n=rare.n)
    model = replace(task.model, shipped=shipped, data=task.model.data | {"class_names": names}, validation=validation)
    files = contents(model, with_images=False)
    said, numbers = files["README.md"].decode(), json.loads(files["measurements.json"])["qualities"]
    assert f"| 70 test | accuracy_balanced | {figures.value('accuracy_balanced'):.4f} | " in said
    assert "**On the test images the model finds 1 of 10 'scratch': less than half of the mean recall, 0.70.**" in said
    assert {split: result["confusion"] for split, result in numbers.items()} == {
        "test": rare.to_json(),
        "validation": rare.to_json(),
    }
    assert numbers["test"]["values"]["recall_min"] == 0.1
    scratch = numbers["test"]["classes"]["scratch"]
    assert (scratch["n"], scratch["correct"]) == (10, 1)


def test_unknown_licences_are_said_to_be_unknown(folder):
    licences = {
        component["type"]: component.get("licence")
        for component in json.loads((folder / "provenance.json").read_text())["components"]
    }
    assert licences["data"] == licences["weights"] == "unknown"
    assert "- data: unknown" in (folder / "README.md").read_text()


def test_the_images_of_the_bundle_are_those_of_the_test_split(task, folder):
    stored = np.load(folder / "images" / "images.npy")
    assert stored.dtype == np.uint8
    assert stored.shape == (20, 40, 40, 3)
    assert task.images.test is not None
    assert any((stored[0] == image).all() for image in task.images.test.images)


@pytest.mark.long
def test_a_core_ml_model_is_also_a_package(make_task):
    model = make_task(True, 28, 28, "coreml").model
    files = contents(model, with_images=False)
    inside = {name for name in files if name.startswith("model.mlpackage/")}
    assert len(inside) == 3
    assert {"model.mlmodel", "model.bin", "example.py"} <= files.keys()
    assert b"model.mlpackage" in files["example.py"]
    assert json.loads(files["bundle.json"])["model"] == "model.mlmodel"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "tensorrt"])
def test_the_card_has_the_command_of_the_runtimes_own_tool(make_task, runtime):
    commands = {
        "onnxruntime": "onnxruntime_perf_test -e cpu -x 1 -y 1 -o 99 -m times -r 1000 -I -s model.onnx",
        "openvino": "benchmark_app -m model.xml -d CPU -shape 'images[1,1,28,28]' -ip f32 -api sync -t 10 -hint none "
        "-nstreams 1 -nthreads 1 -infer_precision f32",
        "tensorrt": "trtexec --onnx=model.onnx --memPoolSize=workspace:1024 --noTF32 --stronglyTyped",
    }
    model = make_task(True, 28, 28, runtime).model
    assert commands[runtime] in contents(model, with_images=False)["README.md"].decode()


@pytest.mark.parametrize(("rung", "said"), [(0, "No gradient step was taken"), (1, "gives weights that differ")])
def test_the_card_says_whether_the_weights_depend_on_the_number_of_threads(make_task, rung, said):
    model = make_task(True, 28, 28).model
    card = contents(replace(model, final=replace(model.final, rung=rung)), with_images=False)["README.md"].decode()
    assert said in card


def test_a_model_for_int8_by_scales_has_the_calibration_cache_of_the_version_that_measured_it(make_task, tmp_path):
    plain = make_task(True, 28, 28, "tensorrt").model
    path = tmp_path / "model.onnx"
    path.write_bytes(plain.path.read_bytes())
    metadata.write(path, {"calibration": "images: 3c008912\n"})
    plan = plain.final.plan
    model = replace(
        plain,
        path=path,
        final=replace(plain.final, plan=replace(plan, deployments=(replace(plan.deployment, precision="int8_ptq"),))),
        artifact=replace(plain.artifact, detail=plain.artifact.detail | {"options": {}}),
        measurements=(plain.confirmation._replace(runtime_version="8.2.1"),),
    )
    files = contents(model, with_images=False)
    assert files["calibration.cache"] == b"TRT-8201-EntropyCalibration2\nimages: 3c008912\n"
    command = "trtexec --onnx=model.onnx --workspace=1024 --noTF32 --int8 --fp16 --calib=calibration.cache"
    assert command in files["README.md"].decode()
