import sys

import pytest

from vitsearch_evaluators.service.here import Program, is_hidden


def test_a_package_is_started_by_its_python():
    program = Program.here()
    assert program.command(None) == (sys.executable, "-m", "vitsearch_evaluators")
    assert program.needs[-1].endswith("vitsearch_evaluators")


@pytest.mark.parametrize(
    ("path", "hidden"),
    [("/home/ada/x", True), ("/root", True), ("/tmp/x", True), ("/homes/x", False), ("/opt/home", False)],
)
def test_what_the_unit_hides(path, hidden):
    assert is_hidden(path) is hidden
