import io

import pytest

from vitsearch_agent.base import processes
from vitsearch_agent.cli.measure import parse_options, parse_shapes
from vitsearch_agent.cli.progress import Progress
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.wire.protocol import CONFIRM

CHILD = processes.ProcessId(1, 2, "boot")


class Terminal(io.StringIO):
    def isatty(self):
        return True


def progress(stream):
    shown = Progress("vit.onnx", CONFIRM._replace(processes=2), stream)
    for phase in ("latency", "latency", "power"):
        shown.started(phase, CHILD)
    shown.event("cooling", until_c=45.0, at_most_s=300)
    shown.close()
    return stream.getvalue()


def test_long_phases_and_events_are_printed():
    assert progress(io.StringIO()).splitlines() == [
        "vitsearch-agent: power phase",
        "vitsearch-agent: cooling (until_c 45.0, at_most_s 300)",
    ]


def test_a_terminal_shows_each_process_in_one_line():
    lines = progress(Terminal()).split("\r\033[K")
    assert lines[1:4] == ["vit.onnx: latency 1 of 2", "vit.onnx: latency 2 of 2", "vit.onnx: power"]
    assert lines[-1] == ""


def test_values_of_options_may_be_json():
    assert parse_options(["a=1", "b=[true]", "c=x=y", "d="]) == {"a": 1, "b": [True], "c": "x=y", "d": ""}
    with pytest.raises(InvalidRequest, match="expected KEY=VALUE"):
        parse_options(["x"])


def test_shapes_are_parsed_and_names_may_contain_any_character():
    assert parse_shapes(["images=1,3,640,640", "a=b:0=2"]) == {"images": (1, 3, 640, 640), "a=b:0": (2,)}


@pytest.mark.parametrize(
    "text", ["images", "images=", "=1,3", "images=1,,3", "images=1,-3", "images=1,0", "images=1x3"]
)
def test_invalid_shapes_are_refused_with_the_form(text):
    with pytest.raises(InvalidRequest, match="--shape: expected NAME=SIZES .* such as images=1,3,640,640; got"):
        parse_shapes([text])


def test_a_shape_given_twice_is_refused():
    with pytest.raises(InvalidRequest, match="--shape: images is given twice"):
        parse_shapes(["images=1,3", "images=1,4"])
