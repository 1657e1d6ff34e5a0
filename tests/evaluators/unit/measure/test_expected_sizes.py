import pytest

from support.artifact_files import identity
from vitsearch_agent.measure.expected_sizes import expected_sizes
from vitsearch_agent.runtimes.shapes import RunShapes
from vitsearch_agent.wire.measure_protocol import SCREEN
from vitsearch_agent.wire.protocol import BlobRef, JobSpec

SPEC = JobSpec("measure", (BlobRef("model.onnx", "b2" * 32, 1),), "onnxruntime", {}, SCREEN)


@pytest.mark.parametrize(
    ("content", "runtime", "batch", "sizes"),
    [
        (identity(shape=(2, 3)), "onnxruntime", None, RunShapes(2, {"x": (2, 3)})),
        (identity(shape=("batch", 3)), "onnxruntime", 8, RunShapes(8, {"x": (8, 3)})),
        (identity(shape=("batch", 3)), "onnxruntime", None, RunShapes(1, {"x": (1, 3)})),
        (identity(shape=(2, 3)), "onnxruntime", 8, RunShapes(8, None)),  # the child refuses it in its own words
        (b"damaged", "onnxruntime", None, None),
        (b"any", "noop", 4, RunShapes(4, None)),
        (b"any", "noop", None, RunShapes(1, None)),
    ],
)
def test_the_sizes_of_a_run_follow_from_the_job_and_the_file(tmp_path, content, runtime, batch, sizes):
    (tmp_path / "model.onnx").write_bytes(content)
    spec = SPEC._replace(runtime=runtime, protocol=SCREEN._replace(batch=batch))
    assert expected_sizes(spec, str(tmp_path)) == sizes
