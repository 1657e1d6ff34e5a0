"""What is opened for a run, and closed after it."""

from __future__ import annotations

import json
import urllib.request
from urllib.error import URLError

import pytest

from vitsearch.errors import ResourceError, UnknownName
from vitsearch.pipeline.progress import Silent
from vitsearch.search.observers.observe import Observing, observed, settings_of, usable_for_bundles


class Notes(Silent):
    def __init__(self):
        self.texts = []

    def note(self, text):
        self.texts.append(text)


def test_a_run_has_a_log_file_in_the_logs_folder(tmp_path, space):
    with observed(Silent(), space, tmp_path / "logs", Observing()) as observers:
        observers.progress.note("hello")
    (path,) = (tmp_path / "logs").iterdir()
    events = [json.loads(line)["event"] for line in path.read_text().splitlines()]
    assert events == ["run_started", "note", "run_ended"]


def test_a_log_file_that_is_named_replaces_it(tmp_path, space):
    with observed(Silent(), space, tmp_path / "logs", Observing(log_file=tmp_path / "my.jsonl")):
        pass
    assert not (tmp_path / "logs").exists()
    assert (tmp_path / "my.jsonl").exists()


def test_metrics_are_served_until_the_run_ends(tmp_path, space):
    view = Notes()
    with observed(view, space, tmp_path, Observing(observers={"prometheus": "0"})):
        (text,) = view.texts
        url = text.removeprefix("metrics for Prometheus: ")
        with urllib.request.urlopen(url) as answer:
            assert b"vitsearch_database_up" in answer.read()
    with pytest.raises(URLError, match="refused"):
        urllib.request.urlopen(url)


def test_a_wrong_address_ends_the_run_before_it_begins(tmp_path, space):
    with pytest.raises(ResourceError), observed(Silent(), space, tmp_path, Observing(observers={"prometheus": "x"})):
        pass


def test_an_observer_that_does_not_exist_is_refused_with_the_nearest(tmp_path, space):
    observing = Observing(observers={"mlfow": "x"})
    with (
        pytest.raises(UnknownName, match="no observer is called 'mlfow'; did you mean 'mlflow'"),
        observed(Silent(), space, tmp_path, observing),
    ):
        pass
    assert list(tmp_path.glob("*.jsonl")) == []


def test_settings_are_those_of_words_and_of_options_of_their_own():
    assert settings_of(["mine=a=b"], mlflow="http://far", prometheus=None) == {"mlflow": "http://far", "mine": "a=b"}


@pytest.mark.parametrize("pairs", [["mine"], ["=x"], ["mlflow=http://other"]])
def test_a_setting_without_a_name_and_a_second_one_are_refused(pairs):
    with pytest.raises(ResourceError, match="write NAME=SETTING|has two settings"):
        settings_of(pairs, mlflow="http://far")


def test_an_observer_without_bundles_is_refused():
    with pytest.raises(ResourceError, match="observer 'prometheus' takes no bundles"):
        usable_for_bundles("prometheus")
