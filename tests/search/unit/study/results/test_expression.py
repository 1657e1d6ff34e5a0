"""The language of --where: what it means, what it refuses, and that its logic is that of three values."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitsearch.errors import QueryError, UnknownName
from vitsearch.study.results.expression import DEEPEST, parse

NAMES = {
    "accuracy": "number",
    "cpu_ms_p50": "number",
    "energy_mj": "number",
    "cpu_ms_p50@nano": "number",
    "backbone": "word",
    "quantization": "word",
    "weight_sparsity": "word",
    "batch": "word",
}
VALUES = {
    "accuracy": 0.9,
    "cpu_ms_p50": 10.0,
    "energy_mj": None,
    "cpu_ms_p50@nano": 3.0,
    "backbone": "deit_tiny_patch16_224.fb_in1k",
    "quantization": "int8_ptq",
    "weight_sparsity": "2:4",
    "batch": "1",
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("cpu_ms_p50 < 12 and accuracy > 0.9", False),
        ("cpu_ms_p50 < 12 and accuracy >= .9", True),
        ("accuracy < 0.5 or cpu_ms_p50 <= 1e1", True),
        ("0.8 < accuracy <= 0.9", True),
        ("12 > cpu_ms_p50", True),
        ("cpu_ms_p50@nano == 3", True),
        ("accuracy > -1", True),
        ("backbone == deit_tiny_patch16_224.fb_in1k", True),
        ("quantization != fp32", True),
        ("quantization = 'int8_ptq'", True),
        ("weight_sparsity == 2:4", True),
        ("batch == 1", True),
        ("not quantization == fp32", True),
        ("not (quantization == int8_ptq or accuracy > 1)", False),
        ("accuracy > 1 or quantization == int8_ptq and cpu_ms_p50 < 1", False),
        ("(accuracy > 1 or quantization == int8_ptq) and cpu_ms_p50 > 1", True),
        ("cpu_ms_p50 < cpu_ms_p50@nano", False),
        ("energy_mj < 3", None),
        ("not energy_mj < 3", None),
        ("energy_mj < 3 and accuracy > 1", False),
        ("energy_mj < 3 or accuracy > 0", True),
    ],
)
def test_an_expression_means(text, holds):
    assert parse(text, NAMES).holds(VALUES) is holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'': a name, a number or a word is expected at the end"),
        ("accuracy", "'accuracy': one of < <= > >= == = != is expected at the end"),
        ("accuracy >", "'accuracy >': a name, a number or a word is expected at the end"),
        ("accuracy > and", "'accuracy > and': a name, a number or a word is expected at character 12, not 'and'"),
        ("accuracy > 1 2", "'accuracy > 1 2': 'and', 'or' or the end is expected at character 14, not '2'"),
        ("(accuracy > 1", "'(accuracy > 1': ')' is expected at the end"),
        ("accuracy > $x", "'accuracy > $x': '$' at character 12 cannot be read"),
        ("1 < 2", "'1 < 2': 1 < 2 names no metric and no knob"),
        ("backbone < deit", "'backbone < deit': backbone is a word, which has no order; allowed: == and !="),
        (
            "accuracy == backbone",
            "'accuracy == backbone': accuracy and backbone cannot be compared: only one is a number",
        ),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(text, message):
    with pytest.raises(QueryError) as caught:
        parse(text, NAMES)
    assert str(caught.value) == message
    assert caught.value.exit_code == 2


def test_an_unknown_name_is_refused_with_what_is_allowed():
    with pytest.raises(UnknownName) as caught:
        parse("acuracy > 0.9", NAMES)
    allowed = ", ".join(sorted(NAMES))
    assert str(caught.value) == f"no metric or knob is called 'acuracy'; did you mean 'accuracy'? Known: {allowed}"


def test_a_word_where_a_number_is_needed_is_refused():
    with pytest.raises(QueryError, match=r"accuracy is a number, but 'acuracy' is not: .*did you mean 'accuracy'"):
        parse("accuracy > acuracy", NAMES)


def test_brackets_inside_each_other_are_limited():
    parse("(" * (DEEPEST - 1) + "accuracy > 0" + ")" * (DEEPEST - 1), NAMES)
    with pytest.raises(QueryError, match=f"more than {DEEPEST} brackets"):
        parse("(" * 5000 + "accuracy > 0" + ")" * 5000, NAMES)


comparisons = st.builds(
    "{} {} {:g}".format,
    st.sampled_from(["accuracy", "cpu_ms_p50", "energy_mj"]),
    st.sampled_from(["<", "<=", ">", ">=", "==", "!="]),
    st.floats(-20, 20, width=16),
)
expressions = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        st.builds("not ({})".format, inner),
        st.builds("({}) and ({})".format, inner, inner),
        st.builds("({}) or ({})".format, inner, inner),
    ),
    max_leaves=8,
)


@given(expressions, expressions)
def test_the_laws_of_de_morgan_hold(first, second):
    def holds(text):
        return parse(text, NAMES).holds(VALUES)

    assert holds(f"not (({first}) and ({second}))") is holds(f"not ({first}) or not ({second})")
    assert holds(f"not (({first}) or ({second}))") is holds(f"not ({first}) and not ({second})")
    assert holds(f"not (not ({first}))") is holds(first)


@given(st.text(max_size=40))
def test_any_text_is_read_or_refused_with_our_errors(text):
    with contextlib.suppress(QueryError, UnknownName):
        assert parse(text, NAMES).holds(VALUES) in (True, False, None)
