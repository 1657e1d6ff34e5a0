"""The examples of a bundle classify files of users as the search evaluates them, every one."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from support.marks import long
from vitsearch.core.image_size import ImageSize
from vitsearch.core.preprocessing import ModelView, Preprocessing
from vitsearch.data.pixels import decode_image
from vitsearch.data.tensors import to_tensor
from vitsearch.export import evaluate
from vitsearch.export.device_jobs import device_job
from vitsearch.ship import examples
from vitsearch.ship.contents import contents
from vitsearch.ship.writing import write
from vitsearch.stages.parts.images import batches
from vitsearch.tasks import CLASSIFICATION
from vitsearch.tasks import TASKS as KINDS
from vitsearch_agent import runtimes
from vitsearch_agent.errors import MeasurementFailed

UNSEEN = 200


def tool_command(model):
    return examples.example_of(model).tool(model)


TASKS = {
    "grey": (True, 28, 20, "onnxruntime"),
    "crop": (True, 40, 32, "onnxruntime", 1, True, Preprocessing((0.4,), (0.3,), "bicubic", 0.9)),
    "colour": (False, 48, 48, "onnxruntime"),
    "224": (False, 224, 192, "onnxruntime"),
    "wide": (False, [40, 60], [32, 48], "onnxruntime", 1, True, Preprocessing((0.4,) * 3, (0.3,) * 3, "bicubic", 0.9)),
    "square of wide": (True, [40, 60], 32, "onnxruntime"),
    "openvino": (False, 40, 32, "openvino"),
    "litert": (True, 40, 32, "litert"),
    "executorch": (True, 40, 32, "executorch"),
    "ncnn": (True, 40, 32, "ncnn"),
    "a batch of 3": (True, 32, 32, "onnxruntime", 3),
}


def side_of(name):
    return max(ImageSize.of(TASKS[name][1]).sides)


def by_the_search(task, files):
    """The classes that the evaluation of the search gives: its own decoding, its own tensors, the file's runtime."""
    model, data_set = task.model, task.images
    pixels = np.stack([decode_image(file, data_set.image_size, data_set.channels) for file in files])
    deployment = model.deployment
    inputs = batches(pixels, ModelView(model.final.plan.resolution, model.artifact.preprocessing))
    logits = evaluate.logits(model.path, inputs, deployment.batch or 1, job=device_job(deployment))
    return [data_set.class_names[index] for index in logits.argmax(1)]


@pytest.mark.parametrize(
    "name",
    [
        "crop",
        "wide",
        *long("square of wide", "openvino", "grey", "colour", "224", "litert", "executorch", "a batch of 3"),
        "ncnn",
    ],
)
def test_the_example_gives_the_classes_of_the_search(make_task, pictures, without_vitsearch, tmp_path, name):
    task = make_task(*TASKS[name])
    write("tiny", contents(task.model, with_images=False), tmp_path / "bundle")
    files = pictures(tmp_path / "unseen", UNSEEN, side_of(name), TASKS[name][0], 5000)
    expected = by_the_search(task, files)
    assert len(set(expected)) > 1  # else nothing is compared
    done = without_vitsearch(tmp_path / "bundle", "example.py", *map(str, files))
    assert done.returncode == 0, done.stderr
    assert [line.split("\t")[1] for line in done.stdout.splitlines()] == expected


RUN = """
import runpy, sys
import numpy as np
sys.path.insert(0, ".")
target = sys.argv.pop()
names = runpy.run_path("example.py")
graph = {}
if hasattr(names.get("MODEL"), "get_runtime_model"):
    graph["shape"] = names["MODEL"].input(0).partial_shape.to_string()
    graph["kernels"] = kernels(names["MODEL"].get_runtime_model())
np.savez(target, images=names["images"], logits=names["logits"], **graph)
"""
"""Runs an example; writes the input and the logits of its last image and, for OpenVINO, what it compiled."""


def kernels(executed):
    """The kernels of a graph that OpenVINO executes, with their shapes."""
    ops = executed.get_ordered_ops()
    return sorted(
        f"{operator.get_rt_info()['layerType'].value} {operator.get_output_partial_shape(0)}" for operator in ops
    )


@pytest.fixture
def run_example(without_vitsearch, tmp_path):
    """run_example(bundle, file): what `RUN` writes."""

    def run(bundle: Path, file: Path):
        script, results = tmp_path / "run.py", tmp_path / "found.npz"
        script.write_text(inspect.getsource(kernels) + RUN)
        done = without_vitsearch(bundle, str(script), str(file), str(results))
        assert done.returncode == 0, done.stderr
        return np.load(results)

    return run


def judged(task):
    """The session in which the search judges the model and the device measures it."""
    model = task.model
    runtime = runtimes.create(model.job.runtime)
    threads, batch = model.confirmation.protocol.threads, model.deployment.batch or model.shipped.batch
    try:
        return runtime.load(str(model.path), runtime.check_options(model.job.options), threads, batch, {})
    except MeasurementFailed as error:
        pytest.skip(str(error))


@pytest.mark.parametrize(
    ("runtime", "batch", "precision"),
    [
        ("openvino", None, "fp32"),
        *long(
            ("openvino", None, "bf16"),
            ("openvino", 3, "fp32"),
            ("onnxruntime", None, "fp32"),
            ("onnxruntime", 1, "fp32"),
            ("litert", 1, "fp32"),
            ("ncnn", 1, "fp32"),
        ),
    ],
)
def test_the_example_runs_the_graph_that_was_judged(
    make_task, pictures, run_example, tmp_path, runtime, batch, precision
):
    task = make_task(False, 40, 32, runtime, batch, precision=precision)
    write("tiny", contents(task.model, with_images=False), tmp_path / "bundle")
    (file,) = pictures(tmp_path / "unseen", 1, 40, False, 7000)
    results, session = run_example(tmp_path / "bundle", file), judged(task)
    np.testing.assert_array_equal(results["logits"], session.infer(results["images"])[0])
    if runtime == "openvino":
        assert results["shape"].item() == "[1,3,32,32]".replace("1", str(batch or 1), 1)
        assert results["kernels"].tolist() == kernels(session.executed_graph())


def described(runtime, options, threads=1, version="1.30.0"):
    """As much of a shipped model as says how it was measured."""
    measured = SimpleNamespace(protocol=SimpleNamespace(threads=threads), runtime_version=version)
    job, plan = SimpleNamespace(options=options, runtime=runtime), SimpleNamespace(resolution=ImageSize.square(32))
    deployment = SimpleNamespace(batch=None, runtime="litert" if runtime == "benchmark_model" else runtime)
    return SimpleNamespace(
        job=job, confirmation=measured, deployment=deployment, data={"channels": 3}, shipped=SimpleNamespace(batch=1),
        final=SimpleNamespace(plan=plan), preprocessing={}, task=CLASSIFICATION,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("runtime", "options", "line"),
    [
        ("openvino", {"fused_subgraphs": "off"}, '"SNIPPETS_MODE": "DISABLE"'),
        ("openvino", {}, '"NUM_STREAMS": "1"'),
        ("openvino", {"hint": "latency"}, '"PERFORMANCE_HINT": "LATENCY"'),
        ("openvino", {}, '"INFERENCE_NUM_THREADS": 1'),
        ("onnxruntime", {"graph_optimization_level": "basic"}, "GraphOptimizationLevel.ORT_ENABLE_BASIC"),
        ("onnxruntime", {}, 'add_session_config_entry("session.intra_op.allow_spinning", "0")'),
        ("litert", {"delegate": "none"}, "OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES"),
    ],
)
def test_the_example_has_the_options_of_the_measurement(runtime, options, line):
    assert line in examples.python_example(described(runtime, options))


def test_the_example_for_a_gpu_of_openvino_leaves_the_fusing_to_it():
    assert "SNIPPETS" not in examples.python_example(described("openvino", {"device": "GPU", "fused_subgraphs": "off"}))


@pytest.mark.parametrize(("delegate", "there"), [("xnnpack", True), ("none", True), ("gpu", False), ("nnapi", False)])
def test_there_is_no_example_for_a_delegate_that_python_does_not_have(delegate, there):
    model = described("benchmark_model", {"delegate": delegate})
    assert (examples.python_example(model) is not None) == there
    assert (examples.packages(model) != ()) == there


@pytest.mark.parametrize(
    ("runtime", "options", "threads", "words"),
    [
        ("onnxruntime", {"provider": "CPUExecutionProvider"}, 2, ["-D"]),
        ("onnxruntime", {"provider": "CPUExecutionProvider", "graph_optimization_level": "basic"}, 1, ["-o", "1"]),
        ("openvino", {"inference_precision": "bf16"}, 1, ["-ip", "f32"]),
        ("openvino", {"inference_precision": "bf16"}, 1, ["-infer_precision", "bf16"]),
        ("openvino", {"fused_subgraphs": "off"}, 1, ["-load_config", "benchmark_app.json"]),
        ("benchmark_model", {"delegate": "none"}, 1, ["--use_xnnpack=false"]),
        ("benchmark_model", {"delegate": "gpu"}, 1, ["--use_xnnpack=false", "--use_gpu=true"]),
    ],
)
def test_the_command_of_the_tool_has_the_options_of_the_measurement(runtime, options, threads, words):
    command = tool_command(described(runtime, options, threads))
    assert command[(start := command.index(words[0])) : start + len(words)] == tuple(words)


def test_the_tool_of_onnxruntime_gets_no_batch_that_it_would_make_a_constant_of_the_graph():
    assert "-f" not in tool_command(described("onnxruntime", {}))


@pytest.mark.long
def test_the_tool_of_openvino_compiles_the_graph_that_was_judged(make_task, tmp_path):
    tool = Path(sys.executable).with_name("benchmark_app")
    if not tool.is_file():
        pytest.skip("openvino came without benchmark_app")
    task = make_task(False, 40, 32, "openvino", None, options={"fused_subgraphs": "off"})
    write("tiny", contents(task.model, with_images=False), tmp_path / "bundle")
    _, *options = tool_command(task.model)
    more = ["-niter", "1", "-exec_graph_path", str(tmp_path / "graph.xml")]
    done = subprocess.run([tool, *options, *more], cwd=tmp_path / "bundle", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    layers = ElementTree.parse(tmp_path / "graph.xml").iter("layer")
    shapes = [
        (layer.get("type"), ",".join(size.text for size in layer.findall("output/port[1]/dim"))) for layer in layers
    ]
    expected = kernels(judged(task).executed_graph())
    assert sorted(f"{kind} [{shape}]" for kind, shape in shapes if kind != "Output") == [
        kernel for kernel in expected if not kernel.startswith("Output")
    ]


@pytest.mark.parametrize(
    ("provider", "package"), [("CPUExecutionProvider", "onnxruntime"), ("CUDAExecutionProvider", "onnxruntime-gpu")]
)
def test_the_package_of_onnxruntime_is_the_one_that_has_the_provider(provider, package):
    assert examples.packages(described("onnxruntime", {"provider": provider}))[-1] == f"{package}==1.30.0"


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


@pytest.mark.long
@pytest.mark.parametrize("name", ["crop", "colour", "wide", "square of wide", "a batch of 3"])
def test_the_cpp_example_gives_the_classes_of_the_search(make_task, pictures, build, tmp_path, name):
    task = make_task(*TASKS[name])
    folder = tmp_path / "bundle"
    write("tiny", contents(task.model, with_images=False), folder)
    build(folder)
    data_set, files = task.images, pictures(tmp_path / "unseen", UNSEEN, side_of(name), TASKS[name][0], 6000)
    images = []
    for number, file in enumerate(files):
        pixels = decode_image(file, data_set.image_size, data_set.channels)
        images.append(tmp_path / f"{number}.{'pgm' if data_set.channels == 1 else 'ppm'}")
        Image.fromarray(pixels.squeeze(2) if data_set.channels == 1 else pixels).save(images[-1])
    done = subprocess.run(["./example", *map(str, images)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    classes = [data_set.class_names[int(line.split("\t")[1])] for line in done.stdout.splitlines()]
    assert classes == by_the_search(task, files)


PRINT_INPUT = """
#include <cstdio>
int main(int, char** paths) {
    std::ifstream file(paths[1], std::ios::binary);
    std::vector<uint8_t> pixels(kRows * kColumns * kChannels);
    file.read(reinterpret_cast<char*>(pixels.data()), pixels.size());
    const std::vector<float> values = input(pixels);
    std::fwrite(values.data(), sizeof(float), values.size(), stdout);
}
"""


@pytest.mark.parametrize(
    ("image_size", "resolution", "interpolation", "crop_share"),
    [(40, 32, "bicubic", 0.9), ([40, 60], [32, 48], "bilinear", 0.9), ([40, 60], 32, "bicubic", 1.0)],
)
def test_the_input_of_the_cpp_example_is_the_one_of_the_search(
    tmp_path, image_size, resolution, interpolation, crop_share
):
    """Its function alone, which needs no onnxruntime."""
    if shutil.which("g++") is None:
        pytest.skip("needs g++")
    stored, size = ImageSize.of(image_size), ImageSize.of(resolution)
    view = ModelView(size, Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), interpolation, crop_share))
    deployment = SimpleNamespace(runtime="onnxruntime", provider="cpu", batch=1)
    model = SimpleNamespace(
        task=CLASSIFICATION,
        deployment=deployment,
        preprocessing=view.settings(stored, 3),
        job=SimpleNamespace(runtime="onnxruntime", options={}),
        confirmation=SimpleNamespace(protocol=SimpleNamespace(threads=1)),
    )
    code = (
        examples.example_of(model).files(model)["example.cpp"].decode().replace("#include <onnxruntime_cxx_api.h>", "")
    )
    (tmp_path / "input.cpp").write_text(code.partition("int main(")[0] + PRINT_INPUT)
    command = ["g++", "-std=c++17", "-Wall", "-Werror", "input.cpp", "-o", "input"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    pixels = np.random.default_rng(0).integers(0, 256, (1, *stored.sides, 3), dtype=np.uint8)
    (tmp_path / "pixels").write_bytes(pixels.tobytes())
    printed = subprocess.run(["./input", "pixels"], cwd=tmp_path, capture_output=True).stdout
    found = np.frombuffer(printed, "<f4").reshape(1, 3, *size.sides)
    np.testing.assert_allclose(found, to_tensor(pixels, size, view.preprocessing).numpy(), rtol=0, atol=1e-5)


def test_the_example_of_a_segmentation_replaces_no_file(make_task, without_vitsearch, tmp_path):
    model, bundle = make_task(*TASKS["grey"]).model, tmp_path / "bundle"
    write("tiny", contents(model, with_images=False), bundle)
    source = examples.python_example(replace(model, task=KINDS.get("segmentation")))
    (bundle / "example.py").write_text(re.sub("classes = .*", "classes = np.zeros((7, 7), np.uint8)", source))
    for folder in ("a", "b"):
        (bundle / folder).mkdir()
        Image.new("L", (28, 28)).save(bundle / folder / "1.png")
    photo = (bundle / "a" / "1.png").read_bytes()
    for arguments, expected in (
        (("a", "a/1.png"), "a/1.png exists and is not replaced; name another folder than a\n"),
        (("masks", "a/1.png", "b/1.png"), "a/1.png and b/1.png would both become masks/1.png\n"),
    ):
        done = without_vitsearch(bundle, "example.py", *arguments)
        assert (done.returncode, done.stderr) == (1, expected)
    assert (bundle / "a" / "1.png").read_bytes() == photo
    assert not (bundle / "masks").exists()
    done = without_vitsearch(bundle, "example.py", "masks", "a/1.png")
    assert done.stdout == "a/1.png\tmasks/1.png\tcat 100%\n", done.stderr
    assert without_vitsearch(bundle, "example.py", "masks", "a/1.png").returncode == 1


@pytest.mark.parametrize(
    ("kind", "arguments", "said"),
    [
        ("classification", ["\u00e9.png"], r"\\xe9\.png\t\\u732b\t[01]\.\d{3}"),
        ("segmentation", ["masks", "\u00e9.png"], r"\\xe9\.png\tmasks/\\xe9\.png\t\\u732b 100%"),
        ("embedding", ["\u00e9.png", "2.png"], r"\\xe9\.png\t2\.png\t-?[01]\.\d{3}"),
        ("depth", ["\u00e9.png"], r"\\xe9\.png\tlogits of shape \[4\]: .*"),
    ],
)
def test_an_example_says_what_the_encoding_of_its_output_lacks(
    bundle, make_task, without_vitsearch, tmp_path, kind, arguments, said
):
    """Python 3.6 in the locale C writes ASCII, Python on Windows writes cp1252 into a pipe."""
    folder = shutil.copytree(bundle, tmp_path / "bundle")
    model = make_task(*TASKS["grey"]).model
    source = examples.python_example(replace(model, task=SimpleNamespace(kind=kind, output="logits")))
    (folder / "example.py").write_text(re.sub("classes = .*", "classes = np.zeros((7, 7), np.uint8)", source))
    (folder / "labels.json").write_text(json.dumps(["\u732b"] * len(model.data["class_names"])))
    for name in ("\u00e9.png", "2.png"):
        shutil.copy(folder / "images" / "0.png", folder / name)
    done = without_vitsearch(folder, "example.py", *arguments, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(said + "\n", done.stdout), done.stdout
    missing = without_vitsearch(folder, "example.py", *arguments[:-1], "no\nfile.png", PYTHONIOENCODING="ascii")
    assert missing.returncode == 1
    assert missing.stderr.splitlines()[-1] == r"no\nfile.png cannot be read: No such file or directory"
