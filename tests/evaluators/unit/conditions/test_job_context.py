"""What every result says of its work is what every reader of results asks for."""

from vitsearch_evaluators.base.json_reader import read_object
from vitsearch_evaluators.conditions.job_context import Conditions
from vitsearch_evaluators.wire.result_fields import OF_EVERY_RESULT

CONDITIONS = Conditions("a1" * 32, "device", "b2" * 32, 2, 0.5)


def test_the_fields_are_those_that_readers_want():
    written = dict(CONDITIONS.begin().fields(), runtime="noop", options={})
    assert read_object(written, OF_EVERY_RESULT, "result") == written


def test_only_a_device_with_a_slowdown_is_emulated():
    assert not CONDITIONS.begin().fields()["emulated"]
    assert CONDITIONS._replace(slowdown=1.0).begin().fields()["emulated"]
