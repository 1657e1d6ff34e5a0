import pytest

from vitsearch_agent.base.printable import printable, printable_lines


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/blocks.0/attn [x]", "/blocks.0/attn [x]"),
        ("Größe 中文", "Größe 中文"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("one\r\ntwo\tthree", "one\\r\\ntwo\\tthree"),
        ("\x9b31m", "\\x9b31m"),
        ("abc\u202egpj\u2066", "abc\\u202egpj\\u2066"),
        ("half \ud800", "half \\ud800"),
    ],
    ids=["plain", "other scripts", "escapes", "lines", "one-byte escape", "direction", "half of a character"],
)
def test_invisible_characters_become_escapes(text, shown):
    assert printable(text) == shown


def test_lines_and_tabs_of_a_longer_text_are_kept():
    assert printable_lines("a\tb\x1b\nc\r\n") == "a\tb\\x1b\nc\\r\n"


def test_any_text_is_visible_and_its_visible_characters_are_kept(fuzz):
    given = pytest.importorskip("hypothesis").given
    text = pytest.importorskip("hypothesis.strategies").text

    @fuzz(300)
    @given(text())
    def check(value):
        assert printable(value).isprintable()
        assert printable(printable(value)) == printable(value)
        assert printable_lines(value).replace("\n", "").replace("\t", "").isprintable()
        assert all(character in printable(value) for character in value if character.isprintable())

    check()
