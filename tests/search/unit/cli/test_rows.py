"""Whatever is in a table, no value is cut in any width."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from support.terminal import shown
from vitsearch.cli.rows import Pairs, Rows

WORDS = st.text("abcdefgh-:/.0123456789", min_size=1, max_size=50)
TEXTS = st.lists(WORDS, max_size=6).map(" ".join)


@st.composite
def tables(draw):
    """Headings, rows, and which columns are of words."""
    count = draw(st.integers(1, 8))
    headings = [f"{draw(WORDS)}{index}" for index in range(count)]
    texts = draw(st.sets(st.sampled_from(headings)))
    rows = draw(
        st.lists(st.tuples(*(TEXTS if heading in texts else WORDS for heading in headings)), min_size=1, max_size=4)
    )
    return Rows(headings, rows, texts, needed=draw(st.sampled_from([None, 1, count])))


@given(table=tables(), width=st.integers(20, 200))
def test_each_value_is_shown_whole_or_its_column_is_named(table, width):
    text = shown(lambda console: console.print(table), width=width)
    said = text.split()
    named = " ".join(said).partition("not in this width:")[2].partition(";")[0]
    for index, heading in enumerate(table.headings):
        if f" {heading}, " in f"{named}, ":
            continue
        assert all(word in said for row in table.rows for word in row[index].split())


@given(table=tables(), width=st.integers(20, 200))
def test_only_what_is_longer_than_a_line_is_wider_than_the_terminal(table, width):
    text = shown(lambda console: console.print(table), width=width)
    assert all(len(line) <= width or len(line.split()) <= 2 for line in text.splitlines()), text


def test_rows_that_fit_are_lines():
    text = shown(
        lambda console: console.print(Rows(["device", "n"], [["nano", "3"], ["pi", "12"]], ["device"])), width=80
    )
    assert text.splitlines() == ["device   n", "nano     3", "pi      12"]


def test_rows_that_do_not_fit_are_blocks():
    row = ["n" * 40, "https://" + "h" * 40 + ":8470", "idle"]
    headings = ["device", "address", "queue"]
    text = shown(lambda console: console.print(Rows(headings, [row], headings)), width=80)
    assert text.splitlines() == [row[0], f"  address: {row[1]}   queue: idle"]


def test_columns_that_do_not_fit_are_named_with_what_shows_them():
    table = Rows(["trial", "a", "b"], [["1", "x" * 30, "y" * 30]], needed=2, rest="--json has them")
    text = shown(lambda console: console.print(table), width=50)
    assert text.splitlines()[-1] == "not in this width: b; --json has them"
    assert "y" not in text.replace("--json", "")


def test_a_text_wraps_beside_its_name():
    text = shown(lambda console: console.print(Pairs([("queue", "one two three", "")])), width=16)
    assert text.splitlines() == ["queue  one two", "       three"]
