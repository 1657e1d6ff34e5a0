import calendar
import hashlib
import time

import pytest

from vitsearch_agent.base.canonical_json import DEPTH_MAX, canonical_json, digest, file_digest, parse_json, utc_now

GOLDEN = {"b": [1, 1.0, 0.1, -0.0, 1e-07, 1e22], "a": {"é": None, "x": True}, "": "\n"}
GOLDEN_TEXT = b'{"":"\\n","a":{"x":true,"\\u00e9":null},"b":[1,1.0,0.1,-0.0,1e-07,1e+22]}'
GOLDEN_DIGEST = "7e2e3972ac322a21e6441f5712590e81f46272565ebf40493f79401781bdcfbe"


def test_golden_text_and_digest():
    assert canonical_json(GOLDEN) == GOLDEN_TEXT
    assert digest(GOLDEN) == GOLDEN_DIGEST


def test_key_order_and_sequence_type_do_not_change_the_digest():
    assert digest({"a": 1, "b": (1, 2)}) == digest({"b": [1, 2], "a": 1})


def test_an_integer_and_an_equal_float_have_different_digests():
    assert digest(1) != digest(1.0)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [-float("inf")]])
def test_nan_and_infinity_are_refused(value):
    with pytest.raises(ValueError):
        canonical_json(value)


@pytest.mark.parametrize("value", [{1: 2}, [{None: 1}], {"a": object()}])
def test_values_that_json_cannot_express_are_refused(value):
    with pytest.raises(TypeError):
        canonical_json(value)


def test_file_digest(tmp_path):
    content = b"x" * 3_000_000
    (tmp_path / "file").write_bytes(content)
    assert file_digest(str(tmp_path / "file")) == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("text", [b"NaN", b'{"a":Infinity}', b'{"a":1,"a":2}', b"{", b"\xff", b"[" * 100_000])
def test_malformed_or_ambiguous_json_is_refused(text):
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize("text", [b"1e999", b'{"a": [-1e400]}', b"1e" + b"9" * 1000, b"9" * 5000, b"-" + b"1" * 4301])
def test_infinite_and_overlong_numbers_are_refused(text):
    with pytest.raises(ValueError):
        parse_json(text)


@pytest.mark.parametrize(("opens", "closes"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_the_nesting_limit_is_the_same_under_every_python(opens, closes):
    assert parse_json(opens * DEPTH_MAX + b"1" + closes * DEPTH_MAX) is not None
    with pytest.raises(ValueError, match="nested"):
        parse_json(opens * (DEPTH_MAX + 1) + b"1" + closes * (DEPTH_MAX + 1))


def test_parsed_values_can_be_written_as_canonical_json():
    assert canonical_json(parse_json(b'{"a": [1e308, -0.0, ' + b"9" * 400 + b"]}"))


def test_times_are_utc_to_the_second():
    now = utc_now()
    assert abs(calendar.timegm(time.strptime(now, "%Y-%m-%dT%H:%M:%SZ")) - time.time()) < 60
