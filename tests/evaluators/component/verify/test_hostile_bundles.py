"""A bundle whose checksums are right and whose content is hostile: one line says what is wrong, whatever it is."""

import copy
import io
import json
import os
import signal
import socket
import struct
import zlib
from xml.etree import ElementTree

import pytest

from support.bundles import PREPROCESSING, embedding_files, image_files, manifest, manifest_of, saved, write_bundle
from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.base.printable import printable
from vitsearch_agent.cli import app
from vitsearch_agent.cli import verify as command
from vitsearch_agent.errors import AgentError, InvalidRequest
from vitsearch_agent.measure.local_job import Request, local_job
from vitsearch_agent.measure.measure_job import measure_job
from vitsearch_agent.verify import images
from vitsearch_agent.verify.bundle import read
from vitsearch_agent.verify.junit import junit
from vitsearch_agent.verify.model_runner import Measured, ModelRunner
from vitsearch_agent.verify.verify import VerifyOptions, verify

numpy = pytest.importorskip("numpy")


@pytest.fixture(autouse=True)
def promptly():
    """Fail a test that hangs: the time is a safety net."""

    def hangs(number, frame):
        raise AssertionError("it hangs")

    signal.signal(signal.SIGALRM, hangs)
    signal.alarm(120)
    yield
    signal.alarm(0)


@pytest.fixture
def refused(capsys):
    """refused(arguments of verify) -> the exit code and the one line that says why."""

    def refused(*arguments):
        code = app.main(["verify", *map(str, arguments)])
        printed = capsys.readouterr()
        assert code in (1, 2)
        lines = printed.err.splitlines() if code == 2 else printed.out.splitlines()[:-1]
        assert len(lines) == 1, lines
        assert lines[0].isprintable()
        assert len(lines[0]) < 1000
        return code, lines[0]

    return refused


def zipped(array):
    stream = io.BytesIO()
    numpy.savez(stream, array)
    return stream.getvalue()


def header(text, version=1):
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", len(text)) + text


def claims(shape, dtype="|u1"):
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    return header(text.ljust(117).encode() + b"\n")


IMAGES = "images/images.npy"
ARRAYS = {
    "empty": b"",
    "truncated in the magic": b"\x93NUM",
    "truncated in the header": image_files()[IMAGES][:40],
    "truncated": image_files()[IMAGES][:-1],
    "too long": image_files()[IMAGES] + b"x",
    "pickled": saved(numpy.array([os.getpid, "x"], dtype=object)),
    "npz": zipped(numpy.zeros((4, 2, 2, 1), "u1")),
    "no dimension": saved(numpy.array(1, "u1")),
    "one dimension": saved(numpy.zeros(16, "u1")),
    "no images": saved(numpy.zeros((0, 2, 2, 1), "u1")),
    "fewer": saved(numpy.zeros((3, 2, 2, 1), "u1")),
    "larger": saved(numpy.zeros((4, 3, 3, 1), "u1")),
    "colour": saved(numpy.zeros((4, 2, 2, 3), "u1")),
    "floats": saved(numpy.zeros((4, 2, 2, 1), "f4")),
    "text": saved(numpy.zeros((4, 2, 2, 1), "U4")),
    "records": saved(numpy.zeros((4, 2, 2, 1), [("a", "u1")])),
    "order of Fortran": saved(numpy.asfortranarray(numpy.zeros((4, 2, 2, 2), "u1"))),
    "31 GiB": claims((170_000, 256, 256, 3)),
    "a huge number": claims("(" + "9" * 4000 + ",)"),
    "negative": claims("(-4, 2, 2, 1)"),
    "code": claims("__import__('os').system('id')"),
    "a long header": header(b"x" * (1 << 20), 2),
    "a header of 4 GiB": b"\x93NUMPY\x02\x00\xff\xff\xff\xff",
    "version 9": b"\x93NUMPY\x09\x00" + bytes(100),
}
LABELS = dict(
    {name: content for name, content in ARRAYS.items() if name not in ("npz", "31 GiB")},
    npz=zipped(numpy.arange(4)),
    huge=claims((1 << 32,), "<i8"),
    unsigned=saved(numpy.arange(4, dtype="<u8")),
    big=saved(numpy.arange(4, dtype=">i8")),
    times=saved(numpy.arange(4).astype("<M8[s]")),
)


@pytest.mark.parametrize("content", ARRAYS.values(), ids=ARRAYS)
def test_images_that_are_no_array_of_images_are_named(tmp_path, refused, content):
    folder = write_bundle(tmp_path, manifest(figures={}), dict(image_files(), **{IMAGES: content}))
    code, line = refused(folder, "--no-measure")
    assert code == 2
    assert IMAGES in line


@pytest.mark.parametrize("content", LABELS.values(), ids=LABELS)
@pytest.mark.parametrize("name", ["images/labels.npy", "images/predictions.npy"])
def test_labels_and_predictions_that_are_none_are_named(tmp_path, refused, name, content):
    folder = write_bundle(tmp_path, manifest(figures={}), dict(image_files(), **{name: content}))
    code, line = refused(folder, "--no-measure")
    assert code == 2
    assert name in line


def claims_floats(shape):
    return claims(shape, "<f4")


EMBEDDINGS = dict(
    {name: content for name, content in ARRAYS.items() if name not in ("npz", "31 GiB", "floats")},
    npz=zipped(numpy.zeros((4, 4), "<f4")),
    huge=claims_floats((4, 1 << 40)),
    flat=saved(numpy.zeros(4, "<f4")),
    three=saved(numpy.zeros((4, 2, 2), "<f4")),
    many=saved(numpy.zeros((5, 4), "<f4")),
    doubles=saved(numpy.zeros((4, 4), "<f8")),
    halves=saved(numpy.zeros((4, 4), "<f2")),
    big=saved(numpy.zeros((4, 4), ">f4")),
    wide=saved(numpy.zeros((4, 5), "<f4")),
    none=saved(numpy.zeros((4, 0), "<f4")),
    nan=saved(numpy.full((4, 4), numpy.nan, "<f4")),
    infinity=saved(numpy.full((4, 4), -numpy.inf, "<f4")),
)


@pytest.mark.parametrize("content", EMBEDDINGS.values(), ids=EMBEDDINGS)
@pytest.mark.parametrize("name", ["images/reference.npy", "images/outputs.npy"])
def test_embeddings_that_are_none_are_named(tmp_path, refused, name, content):
    files = dict(embedding_files(), **{name: content})
    code, line = refused(write_bundle(tmp_path, manifest_of("embedding", figures={}), files), "--no-measure")
    assert code == 2
    assert name in line


def test_outputs_that_no_job_could_give_are_refused(tmp_path, refused):
    files = dict(embedding_files(), **{"images/outputs.npy": claims_floats((4, 1 << 25)).ljust(128)})
    folder = write_bundle(tmp_path, manifest_of("depth", figures={}), files)
    path = tmp_path / "images" / "outputs.npy"
    content = path.read_bytes()
    with path.open("r+b") as stream:
        stream.truncate(len(content) + (1 << 29))
    with pytest.raises(InvalidRequest, match="images/outputs.npy: 536870912 bytes, allowed are 268435456"):
        images.outputs_of(read(folder), "images/outputs.npy", 4)


@pytest.mark.parametrize("missing", sorted(embedding_files()))
def test_embeddings_that_are_missing_are_named(tmp_path, refused, missing):
    files = embedding_files()
    del files[missing]
    code, line = refused(write_bundle(tmp_path, manifest_of("embedding", figures={}), files), "--no-measure")
    assert code == 2
    assert missing in line


@pytest.mark.parametrize("missing", sorted(image_files()))
def test_images_that_are_missing_are_named(tmp_path, refused, missing):
    files = image_files()
    del files[missing]
    code, line = refused(write_bundle(tmp_path, manifest(figures={}), files), "--no-measure")
    assert code == 2
    assert missing in line


def bomb(width, height):
    """A PNG of a few KiB that is decoded to width * height pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    start = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + start + chunk(b"IDAT", zlib.compress(bytes(1 << 20))) + chunk(b"IEND", b"")


def png(size):
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.new("L", size).save(stream, "png")
    return stream.getvalue()


def write(content):
    def make(path):
        with open(path, "wb") as stream:
            stream.write(content)

    return make


def large(path):
    with open(path, "wb") as stream:
        stream.write(b"P5 2 2 255\n")
        stream.truncate(images.FILE_MAX_BYTES + 1)


def bind(path):
    folder, name = os.path.split(path)
    before = os.getcwd()
    os.chdir(folder)  # the name of a socket is short
    try:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(name)
    finally:
        os.chdir(before)


FILES = {
    "bomb": write(bomb(60000, 60000)),
    "bomb that Pillow only warns of": write(bomb(10000, 10000)),
    "no image": write(b"nothing"),
    "empty": write(b""),
    "truncated": lambda path: write(png((64, 64))[:50])(path),
    "text of 2 MiB in a PNG": lambda path: write(
        png((2, 2))[:33]
        + struct.pack(">I", 1 << 20)
        + b"zTXt"
        + b"key\0\0"
        + zlib.compress(bytes(64 << 20))
        + bytes(1 << 20)
    )(path),
    "FIFO": os.mkfifo,
    "socket": bind,
    "device": lambda path: os.symlink("/dev/zero", path),
    "link to nothing": lambda path: os.symlink("nowhere", path),
    "link to itself": lambda path: os.symlink(os.path.basename(path), path),
    "large": large,
}


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_an_image_file_that_is_none_is_named(tmp_path, refused, make):
    pytest.importorskip("PIL")
    folder = write_bundle(tmp_path / "tiny", manifest(figures={}, images=None))
    path = tmp_path / "data" / "north west" / "one.png"
    path.parent.mkdir(parents=True)
    make(str(path))
    code, line = refused(folder, "--no-measure", "--data", tmp_path / "data")
    assert code == 2
    assert str(path) in line


PATHS = {
    "FIFO": os.mkfifo,
    "socket": bind,
    "device": lambda path: os.symlink("/dev/zero", path),
    "null device": lambda path: os.symlink("/dev/null", path),
    "empty file": write(b""),
    "no zip": write(b"PK\x03\x04 but no more"),
    "empty folder": os.mkdir,
    "link to nothing": lambda path: os.symlink("nowhere", path),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("make", PATHS.values(), ids=PATHS)
@pytest.mark.parametrize("is_baseline", [False, True], ids=["bundle", "baseline"])
def test_a_path_that_is_no_bundle_is_named(tmp_path, refused, make, is_baseline):
    path = tmp_path / "other"
    make(str(path))
    intact = write_bundle(tmp_path / "tiny", manifest(figures={}, images=None))
    code, line = refused(*((intact, "--baseline", path) if is_baseline else (path,)), "--no-measure")
    assert code == 2 or "the zip is damaged" in line


@pytest.mark.parametrize("affinity", [[[1]], [{}], ["0"], [None], [True], [1.0], [], [-1], [10**30], {}, "0", 1, None])
def test_processors_that_are_none_are_ignored(tmp_path, affinity):
    device = {"name": "x", "kind": "physical", "environment": {"affinity": affinity}}
    before = os.sched_getaffinity(0)
    command._pin_as_shipped(read(write_bundle(tmp_path, manifest(device=device))))
    assert os.sched_getaffinity(0) == before


def test_the_inputs_that_are_made_at_a_time_are_bounded(tmp_path):
    """However small the input of the model is: the images in the bundle are larger then."""
    settings = dict(PREPROCESSING, image_size=1024, crop_size=1024, channels=3, mean=[0.0] * 3, std=[1.0] * 3)
    content = json.dumps(settings).encode()
    bundle = read(write_bundle(tmp_path, manifest(batch=2), {"preprocessing.json": content}))
    sizes = []

    def give(first, last):
        sizes.append(last - first)
        return numpy.zeros((last - first, 1024, 1024, 3), "u1")

    chosen = images.Images("", 9, give)
    assert len(list(images.chunks(chosen, bundle, str(tmp_path)))) == 3
    assert sizes == [4, 4, 1]
    del sizes[:]
    list(images.chunks(chosen, bundle, str(tmp_path), outputs=8 << 20))
    assert sizes == [2, 2, 2, 2, 1], "so are the outputs of a model that gives many numbers"


@pytest.fixture(scope="module")
def measured(tiny_protocol, tmp_path_factory):
    """A real measurement, on the processor that the manifest names."""
    path = tmp_path_factory.mktemp("measured") / "model.onnx"
    path.write_bytes(b"model")
    with local_job("measure", {"model.onnx": str(path)}, Request("noop", {}, tiny_protocol)) as job:
        return Measured(measure_job(job.spec, job.context, job.folder, None), {"cpu": "c"})


class Stub(ModelRunner):
    """Gives each image its pixels and finds one measurement: what a hostile manifest does beside these counts."""

    def __init__(self, measured):
        self.measured = measured

    def outputs(self, chunk):
        images = numpy.load(chunk.images)
        return images.reshape(len(images), -1)

    def measure(self):
        return self.measured


OTHER_TYPES = (None, True, 0, -1, 2**70, 1e300, -0.5, "", "\x1b[2J\u202e", "x" * 5000, [], [[1]], {}, {"\0": []})


def places(value, path=()):
    """Yield the path of every value in a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield from places(item, (*path, key))


def changed(value, path, new):
    if not path:
        return new
    result = copy.deepcopy(value)
    inner = result
    for key in path[:-1]:
        inner = inner[key]
    if new is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = new
    return result


def outcome(folder, options, measured):
    """The lines that the command prints: those of the report, in each of its forms, or the one of an error."""
    try:
        report = verify(folder, lambda bundle: Stub(measured), options)
    except AgentError as error:
        return printable(str(error)).splitlines()
    ElementTree.fromstring(junit(report))
    json.dumps(report.to_json())
    return command.text(report, options).splitlines()


SHIPPED = parse_json(
    json.dumps(manifest(device={"name": "d", "kind": "physical", "environment": {"cpu": "c"}})).encode()
)
CONTENTS = {"bundle.json": SHIPPED, "preprocessing.json": PREPROCESSING, "labels.json": ["a", "b", "c", "d"]}
PLACES = [(name, path) for name, content in CONTENTS.items() for path in places(content)]


@pytest.mark.parametrize(("name", "path"), PLACES, ids=[".".join(map(str, (name, *path))) for name, path in PLACES])
def test_a_value_of_another_type_anywhere_is_one_line(tmp_path, measured, name, path):
    for number, new in enumerate((*OTHER_TYPES, *([...] if path else []))):
        content = json.dumps(changed(CONTENTS[name], path, new)).encode()
        folder = write_bundle(tmp_path / str(number), SHIPPED, dict(image_files(), **{name: content}))
        for options in (VerifyOptions(), VerifyOptions(measures=False), VerifyOptions(measures=False, baseline=folder)):
            lines = outcome(folder, options, measured)
            assert lines
            assert all(line.isprintable() and len(line) < 10000 for line in lines), new


EMBEDDED = parse_json(
    json.dumps(manifest_of("embedding", device={"name": "d", "kind": "physical", "environment": {"cpu": "c"}})).encode()
)
OF_QUALITIES = [path for path in places(EMBEDDED) if path[:1] in (("task",), ("qualities",))]


@pytest.mark.parametrize("path", OF_QUALITIES, ids=[".".join(path) for path in OF_QUALITIES])
def test_a_quality_of_another_type_anywhere_is_one_line(tmp_path, measured, path):
    for number, new in enumerate((*OTHER_TYPES, "depth", ...)):
        content = json.dumps(changed(EMBEDDED, path, new)).encode()
        folder = write_bundle(tmp_path / str(number), EMBEDDED, dict(embedding_files(), **{"bundle.json": content}))
        for options in (VerifyOptions(measures=False), VerifyOptions(measures=False, baseline=folder)):
            lines = outcome(folder, options, measured)
            assert lines
            assert all(line.isprintable() and len(line) < 10000 for line in lines), new


def test_mutated_manifests_are_one_line(tmp_path, measured, fuzz):
    hypothesis = pytest.importorskip("hypothesis")
    strategies = hypothesis.strategies
    leaf = strategies.one_of(
        strategies.none(),
        strategies.booleans(),
        strategies.integers(),
        strategies.floats(),
        strategies.text(max_size=5),
    )
    values = strategies.recursive(
        leaf,
        lambda inner: strategies.one_of(
            strategies.lists(inner, max_size=3), strategies.dictionaries(strategies.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=5,
    )
    changes = strategies.lists(strategies.tuples(strategies.sampled_from(PLACES), values), min_size=1, max_size=3)

    @fuzz(100)
    @hypothesis.given(changes)
    def every(changes):
        contents = dict(CONTENTS)
        for (name, path), new in changes:
            try:
                contents[name] = changed(contents[name], path, new)
            except (KeyError, IndexError, TypeError):
                continue  # an earlier change has removed that place
        files = {name: json.dumps(content).encode() for name, content in contents.items()}
        folder = write_bundle(tmp_path, SHIPPED, dict(image_files(), **files))
        assert outcome(folder, VerifyOptions(), measured)
        assert outcome(folder, VerifyOptions(measures=False, baseline=folder), measured)

    every()
