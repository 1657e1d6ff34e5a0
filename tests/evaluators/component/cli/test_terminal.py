import logging
import sys

from vitsearch_agent.cli.terminal import _Formatter, complain
from vitsearch_agent.errors import InvalidRequest, MeasurementFailed


def test_an_error_is_one_line_and_its_output_is_below(capsys):
    complain(MeasurementFailed("crash", "it died\n\x1b[2J", {"output_tail": "\x1b[1;31mline 1\x07\x1b[m\nline 2\n"}))
    assert capsys.readouterr().err == "vitsearch-agent: crash: it died\\n\\x1b[2J\nline 1\\x07\nline 2\n"
    complain(InvalidRequest("no such file"))
    assert capsys.readouterr().err == "vitsearch-agent: no such file\n"


def test_a_record_of_the_log_is_one_line_and_its_traceback_is_below():
    try:
        raise ValueError("\x1b[31m")
    except ValueError:
        exc_info = sys.exc_info()
    record = logging.LogRecord("agent", logging.INFO, "", 1, "job of %s", ("anna\nben\x1b[2J",), exc_info)
    first, *others = _Formatter("%(name)s: %(message)s").format(record).split("\n")
    assert first == "agent: job of anna\\nben\\x1b[2J"
    assert others[0] == "Traceback (most recent call last):"
    assert others[-1] == "ValueError: \\x1b[31m"
