"""What the agent makes of a child's answer and of the file that it left: it trusts neither."""

import hashlib
import json
import os
import struct

import pytest

from vitsearch_agent.base.npy import header_of
from vitsearch_agent.errors import EnvironmentChanged, MeasurementFailed
from vitsearch_agent.measure.child_process import StopSignal
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.measure.job_folder import JobFolder
from vitsearch_agent.measure.outputs_job import measure_outputs
from vitsearch_agent.wire import results
from vitsearch_agent.wire.protocol import OUTPUTS, BlobRef, JobSpec, OutputsResult, Part

CONTEXT = JobContext("a1" * 32, "device-1", "c3" * 32, 2, 0.5)
NAMES = ("model.onnx", "images.npy")
SPEC = JobSpec("outputs", tuple(BlobRef(name, "b2" * 32, 1) for name in NAMES), "noop", {}, OUTPUTS, 0, "none")
REPORT = {
    "n": 4,
    "item_shape": [2],
    "not_finite": 0,
    "runtime_version": "1",
    "options": {},
    "batch": 1,
    "shapes": None,
}
CLASSES = dict(REPORT, item_shape=[])
ANSWER = f"answer-{'c3' * 8}-outputs.json"


class Left(JobFolder):
    """A folder in which a child has left its answer, a record of an earlier attempt or not."""

    def run(self, *_):
        with open(os.path.join(self.folder, ANSWER)) as stream:
            return json.load(stream)


def store(folder, report, outputs, images=4):
    (folder / "images.npy").write_bytes(header_of("|u1", (images, 1, 1, 1)) + bytes(images))
    (folder / ANSWER).write_text(json.dumps({"report": report}))
    (folder / "outputs.bin").write_bytes(outputs)


def measured(folder, reduction="none", context=CONTEXT):
    """Return the result and the contents of its parts."""
    contents = []

    def keep(path, beside):
        with open(path, "rb") as stream:
            contents.append(stream.read())
        assert beside == {hashlib.sha256(content).hexdigest() for content in contents[:-1]}
        return hashlib.sha256(contents[-1]).hexdigest()

    spec = SPEC._replace(reduction=reduction)
    return measure_outputs(spec, context, Left(str(folder), StopSignal(), kept=str(folder)), keep), contents


def test_outputs_of_another_version_of_the_runtime_are_refused(tmp_path):
    store(tmp_path, REPORT, bytes(range(32)))
    with pytest.raises(EnvironmentChanged, match="the environment has 0"):
        measured(tmp_path, context=CONTEXT._replace(runtime_version="0"))


def test_the_answer_of_an_interrupted_attempt_is_used(tmp_path):
    store(tmp_path, REPORT, bytes(range(32)))
    result, contents = measured(tmp_path)
    assert (result.shape, result.dtype, result.reduction, result.attempts) == ((4, 2), "<f4", "none", 2)
    assert contents == [bytes(range(32))]
    assert result.parts == (Part(hashlib.sha256(contents[0]).hexdigest(), 32),)
    assert OutputsResult.from_json(result.to_json()) == result


@pytest.mark.parametrize("damaged", [b"\0" * 200, b"[]"])
def test_a_damaged_answer_is_measured_again(tmp_path, monkeypatch, damaged):
    store(tmp_path, REPORT, bytes(32))
    (tmp_path / ANSWER).write_bytes(damaged)
    monkeypatch.setattr(Left, "run", lambda *_: {"report": dict(REPORT, not_finite=2)})
    assert measured(tmp_path)[0].not_finite == 2


@pytest.mark.parametrize(("size", "sizes"), [(7, [7]), (8, [8]), (9, [8, 1]), (16, [8, 8]), (23, [8, 8, 7])])
def test_the_parts_end_at_exactly_their_size(tmp_path, monkeypatch, size, sizes):
    monkeypatch.setattr(results, "PART_MAX_BYTES", 8)
    store(tmp_path, dict(CLASSES, n=size), bytes(range(size)), size)
    result, contents = measured(tmp_path, "argmax_uint8")
    assert [part.size for part in result.parts] == sizes == [len(content) for content in contents]
    assert b"".join(contents) == bytes(range(size))
    assert OutputsResult.from_json(result.to_json()) == result


@pytest.mark.parametrize("make", ["link", "fifo", "folder", "nothing"])
def test_outputs_that_are_no_file_are_not_kept(tmp_path, monkeypatch, make):
    """A model that runs code could link to a file that it may not read, and have the agent publish it."""
    store(tmp_path, REPORT, bytes(32))
    (tmp_path / "outputs.bin").rename(tmp_path / "other")
    if make == "link":
        (tmp_path / "outputs.bin").symlink_to(tmp_path / "other")
    if make == "fifo":
        os.mkfifo(str(tmp_path / "outputs.bin"))
    if make == "folder":
        (tmp_path / "outputs.bin").mkdir()
    monkeypatch.setattr(Left, "run", lambda *_: {"report": REPORT})
    with pytest.raises(MeasurementFailed, match="the outputs cannot be read") as caught:
        measured(tmp_path)
    assert caught.value.kind == "protocol"


@pytest.mark.parametrize(
    ("report", "outputs", "reduction", "message"),
    [
        (REPORT, bytes(31), "none", r"31 bytes of outputs for <f4 of shape \[4, 2\]"),
        (REPORT, bytes(33), "none", "33 bytes of outputs"),
        (dict(REPORT, n=5), bytes(40), "none", "outputs of 5 images, 0 of them not finite, for 4 images"),
        (dict(REPORT, not_finite=5), bytes(32), "none", "5 of them not finite"),
        (dict(REPORT, item_shape=[2**31 - 1] * 8), bytes(32), "none", "allowed are 268435456"),
        (dict(REPORT, item_shape=[1] * 9), bytes(16), "none", "a list of at most 8"),
        (dict(REPORT, item_shape=[0]), b"", "none", "a whole number from 1"),
        (dict(REPORT, item_shape=[-1]), b"", "none", "a whole number from 1"),
        (dict(REPORT, more=1), bytes(32), "none", "unknown more"),
        ({"n": 4}, bytes(32), "none", "missing batch"),
        (CLASSES, b"\1\2\xff\3", "argmax_uint8", "0 images are reported as not finite, 1 are"),
        (dict(CLASSES, not_finite=1), bytes(4), "argmax_uint8", "1 images are reported as not finite, 0 are"),
        (dict(REPORT, not_finite=2), b"\xff\xff\0\0\0\0\0\0", "argmax_uint8", "2 images are reported .* 1 are"),
        (CLASSES, struct.pack("<4H", 1, 2, 65535, 3), "argmax_uint16", "0 images are reported as not finite, 1 are"),
    ],
)
def test_an_inconsistent_answer_is_a_protocol_failure(tmp_path, report, outputs, reduction, message):
    store(tmp_path, report, outputs)
    with pytest.raises(MeasurementFailed, match=message) as caught:
        measured(tmp_path, reduction)
    assert caught.value.kind == "protocol"


def test_reserved_values_count_once_for_each_image(tmp_path):
    store(tmp_path, dict(REPORT, not_finite=2), b"\xff\xff\0\xff\0\0\0\0")
    assert measured(tmp_path, "argmax_uint8")[0].not_finite == 2
    # 0xff00 and 0x00ff side by side hold the two bytes of the reserved value, and are none.
    store(tmp_path, dict(CLASSES, not_finite=1), struct.pack("<4H", 0xFF00, 0x00FF, 0xFFFF, 0))
    assert measured(tmp_path, "argmax_uint16")[0].not_finite == 1


def test_the_images_are_counted_before_the_child_could_change_them(tmp_path):
    store(tmp_path, REPORT, bytes(32), images=3)
    with pytest.raises(MeasurementFailed, match="for 3 images"):
        measured(tmp_path)
    (tmp_path / "images.npy").write_bytes(b"none")
    with pytest.raises(MeasurementFailed, match="images is not a .npy file") as caught:
        measured(tmp_path)
    assert caught.value.kind == "incompatible_artifact"
