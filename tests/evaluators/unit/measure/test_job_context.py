"""The fields that a job context writes are those that the readers of results expect."""

import pytest

from vitsearch_agent.base.json_reader import read_object
from vitsearch_agent.errors import EnvironmentChanged
from vitsearch_agent.measure.job_context import JobContext
from vitsearch_agent.wire.result_fields import OF_EVERY_RESULT

CONTEXT = JobContext("a1" * 32, "device", "b2" * 32, 2, 0.5)


def test_the_fields_are_those_of_every_result():
    written = dict(CONTEXT.start().fields(), runtime="noop", options={})
    assert read_object(written, OF_EVERY_RESULT, "result") == written


def test_only_a_device_with_a_slowdown_is_emulated():
    assert not CONTEXT.start().fields()["emulated"]
    assert CONTEXT._replace(slowdown=1.0).start().fields()["emulated"]


def test_another_version_of_the_runtime_is_another_environment():
    with pytest.raises(EnvironmentChanged, match=r"ran onnxruntime 1\.23, the environment has 1\.22"):
        CONTEXT._replace(runtime_version="1.22").refuse_version("onnxruntime", "1.23")


@pytest.mark.parametrize(("of_environment", "of_process"), [("1.22", "1.22"), (None, "1.22"), ("1.22", None)])
def test_equal_and_unknown_versions_are_no_other_environment(of_environment, of_process):
    CONTEXT._replace(runtime_version=of_environment).refuse_version("onnxruntime", of_process)
