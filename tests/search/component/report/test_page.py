"""The page is one file that asks for nothing, and no text in the data can change what it is."""

from __future__ import annotations

import html.parser
import json
import re

import pytest

from vitsearch.report.page import as_script, page


class Parts(html.parser.HTMLParser):
    """The elements of a page that load something, and the text of its scripts."""

    def __init__(self, text):
        super().__init__()
        self.loads, self.scripts, self._is_script = [], [], False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.loads += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data") and value]
        self._is_script = tag == "script"
        if self._is_script:
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._is_script = False

    def handle_data(self, data):
        if self._is_script:
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def text(report):
    return page(report.to_json(), live=False)


def test_nothing_is_loaded_from_elsewhere(text):
    assert {load for load in Parts(text).loads if not load.startswith(("#", "data:"))} == set()
    assert "connect-src 'none'" in text


def test_the_live_page_may_ask_its_server_only(report):
    assert "connect-src 'self'" in page(report.to_json(), live=True)


def test_the_data_stands_in_the_page_once(text, report):
    scripts = [script for script in Parts(text).scripts if script.startswith('{"study"')]
    assert [json.loads(script) for script in scripts] == [json.loads(json.dumps(report.to_json()))]


def test_no_placeholder_is_left(text):
    start = text.index("<body>")
    assert re.findall(r"\{\{\w+\}\}", text[:start] + text[text.rindex("<script>") :]) == []


@pytest.mark.parametrize("nasty", ["</script><script>alert(1)</script>", "<!--<script>", "\u2028", "{{plotly}}"])
def test_a_text_in_the_data_stays_data(nasty):
    written = as_script({"reason": nasty})
    assert json.loads(written) == {"reason": nasty}
    assert "<" not in written
    assert "\u2028" not in written


def test_a_text_that_looks_like_a_placeholder_stays_as_it_is(report):
    data = report.to_json() | {"study": "{{plotly}}"}
    assert page(data, live=False).count("plotly.js v") == page(report.to_json(), live=False).count("plotly.js v")
