"""The examples of a bundle classify files of users as the search evaluates them, every one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from support.marks import long
from vitsearch.core.preprocessing import ModelView, Preprocessing
from vitsearch.data.pixels import decode_image
from vitsearch.export import evaluate
from vitsearch.export.device_jobs import device_job
from vitsearch.ship.contents import contents
from vitsearch.ship.examples import _onnxruntime, _openvino
from vitsearch.ship.writing import write
from vitsearch.workers.images import batches

UNSEEN = 200
TASKS = {
    "grey": (True, 28, 20, "onnxruntime"),
    "crop": (True, 40, 32, "onnxruntime", 1, True, Preprocessing((0.4,), (0.3,), "bicubic", 0.9)),
    "colour": (False, 48, 48, "onnxruntime"),
    "224": (False, 224, 192, "onnxruntime"),
    "openvino": (False, 40, 32, "openvino"),
    "litert": (True, 40, 32, "litert"),
    "a batch of 3": (True, 32, 32, "onnxruntime", 3),
}


def by_the_search(task, files):
    """The classes that the evaluation of the search gives: its own decoding, its own tensors, the file's runtime."""
    model, found = task.model, task.images
    pixels = np.stack([decode_image(file, found.image_size, found.channels) for file in files])
    deployment = model.deployment
    inputs = batches(pixels, ModelView(model.final.plan.resolution, model.artifact.preprocessing))
    logits = evaluate.logits(model.path, inputs, deployment.batch or 1, job=device_job(deployment))
    return [found.class_names[index] for index in logits.argmax(1)]


@pytest.mark.parametrize("name", ["crop", "openvino", *long("grey", "colour", "224", "litert", "a batch of 3")])
def test_the_example_gives_the_classes_of_the_search(make_task, pictures, without_vitsearch, tmp_path, name):
    task = make_task(*TASKS[name])
    write("tiny", contents(task.model, with_images=False), tmp_path / "bundle")
    grey, size, *_ = TASKS[name]
    files = pictures(tmp_path / "unseen", UNSEEN, size, grey, 5000)
    expected = by_the_search(task, files)
    assert len(set(expected)) > 1  # else nothing is compared
    done = without_vitsearch(tmp_path / "bundle", "example.py", *map(str, files))
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == expected


@pytest.mark.parametrize(("device", "is_set"), [("CPU", True), ("GPU", False)])
def test_the_example_for_openvino_fuses_no_subgraphs_where_the_model_forbids_it(device, is_set):
    options = {"inference_precision": "f32", "device": device, "fused_subgraphs": "off"}
    measured = SimpleNamespace(protocol=SimpleNamespace(threads=1), runtime_version="2026.4")
    model = SimpleNamespace(job=SimpleNamespace(options=options, runtime="openvino"), confirmation=measured)
    assert ('"SNIPPETS_MODE": "DISABLE"' in _openvino(model).open) == is_set


@pytest.mark.parametrize(
    ("provider", "package"), [("CPUExecutionProvider", "onnxruntime"), ("CUDAExecutionProvider", "onnxruntime-gpu")]
)
def test_the_package_of_onnxruntime_is_the_one_that_has_the_provider(provider, package):
    measured = SimpleNamespace(protocol=SimpleNamespace(threads=1), runtime_version="1.30.0")
    model = SimpleNamespace(
        job=SimpleNamespace(options={"provider": provider}, runtime="onnxruntime"), confirmation=measured
    )
    assert _onnxruntime(model).packages == (f"{package}==1.30.0",)


@pytest.fixture(scope="module")
def bundle(make_task, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "tiny"
    write("tiny", contents(make_task(*TASKS["grey"]).model, with_images=True), folder)
    return folder


def test_the_example_classifies_the_pictures_of_the_bundle(bundle, without_vitsearch):
    labels = json.loads((bundle / "labels.json").read_text())
    expected = [labels[index] for index in np.load(bundle / "images" / "predictions.npy")[[0, 6, 13]]]
    done = without_vitsearch(bundle, "example.py", "images/0.png", "images/1.png", "images/2.png")
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == expected


def test_the_example_without_images_prints_its_usage(bundle, without_vitsearch):
    done = without_vitsearch(bundle, "example.py")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "usage: python example.py IMAGE...\n")


@pytest.mark.parametrize(
    ("name", "reason"), [("nothing.png", "No such file or directory"), ("labels.json", "cannot identify image file")]
)
def test_an_image_that_cannot_be_read_is_one_line(bundle, without_vitsearch, name, reason):
    done = without_vitsearch(bundle, "example.py", name)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{name} cannot be read: {reason}")
    assert len(done.stderr.splitlines()) == 1


@pytest.fixture
def build(tmp_path):
    """build(folder): compile example.cpp against the library of the Python package; the headers are Debian's."""
    include = Path(os.environ.get("ONNXRUNTIME_INCLUDE", "/usr/include/onnxruntime"))
    libraries = list((Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*"))
    if shutil.which("g++") is None or not libraries or not (include / "onnxruntime_cxx_api.h").is_file():
        pytest.skip("needs g++ and the headers of libonnxruntime-dev (or ONNXRUNTIME_INCLUDE)")
    library = tmp_path / "libonnxruntime.so.1"
    library.symlink_to(libraries[0])

    def compile_in(folder: Path) -> None:
        where = f"-Wl,-rpath,{tmp_path}"
        command = [
            "g++",
            "-std=c++17",
            "-Wall",
            "-Werror",
            f"-I{include}",
            "example.cpp",
            str(library),
            where,
            "-o",
            "example",
        ]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    return compile_in


@pytest.mark.parametrize("name", ["crop", "colour", "a batch of 3"])
def test_the_cpp_example_gives_the_classes_of_the_search(make_task, pictures, build, tmp_path, name):
    task = make_task(*TASKS[name])
    folder = tmp_path / "bundle"
    write("tiny", contents(task.model, with_images=False), folder)
    build(folder)
    found, files = task.images, pictures(tmp_path / "unseen", UNSEEN, TASKS[name][1], TASKS[name][0], 6000)
    images = []
    for number, file in enumerate(files):
        pixels = decode_image(file, found.image_size, found.channels)
        images.append(tmp_path / f"{number}.{'pgm' if found.channels == 1 else 'ppm'}")
        Image.fromarray(pixels.squeeze(2) if found.channels == 1 else pixels).save(images[-1])
    done = subprocess.run(["./example", *map(str, images)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    classes = [found.class_names[int(line.split("\t")[1])] for line in done.stdout.splitlines()]
    assert classes == by_the_search(task, files)
