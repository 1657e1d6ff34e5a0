import io

from hypothesis import given
from hypothesis import strategies as st

from vitsearch_agent.base.wrapping import for_stream, wrapped_line


@given(st.text(alphabet="ab -/", max_size=80), st.integers(5, 30))
def test_prose_wraps_between_words_under_its_indentation(text, width):
    parts = wrapped_line(text, width)
    assert " ".join(parts).split() == text.split()
    indentation = text[: len(text) - len(text.lstrip())]
    for part in parts:
        assert len(part) <= width or len(part.split()) == 1
        assert part == "" or part.startswith(indentation)


def test_a_terminal_gets_whole_words_and_a_pipe_the_lines_as_they_are(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    pipe, terminal = io.StringIO(), io.StringIO()
    terminal.isatty = lambda: True
    text = "passed  455 of 500 correct\n  files    yes"
    assert for_stream(text, pipe) == text
    assert for_stream(text, terminal) == "passed  455 of 500\ncorrect\n  files    yes"
