"""What Prometheus reads, over HTTP, from a study that runs."""

from __future__ import annotations

import http.client
import socket
import sys
import urllib.error
import urllib.request
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families

from support.slow_clients import closed_by_server
from vitsearch.core.pareto import hypervolume, loss
from vitsearch.errors import ResourceError
from vitsearch.pipeline.progress import Silent
from vitsearch.search.observers.host_names import HostNames
from vitsearch.search.observers.prometheus import Address, Prometheus, serve_metrics
from vitsearch.stages import TrainJob
from vitsearch.storage.stage_cost import StageCost
from vitsearch.study.front import read_front
from vitsearch.study.status import status
from vitsearch.testing.fakes import FakeRunner
from vitsearch.testing.observers import ObserverTests


def scrape(url):
    """Every sample as name and labels -> value; the study is a label of all."""
    with urllib.request.urlopen(url) as answer:
        text = answer.read().decode()
    samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = dict(sample.labels)
            assert labels.pop("study") == "fake"
            samples[sample.name.removeprefix("vitsearch_"), *labels.values()] = sample.value
    return samples


@pytest.fixture(scope="module")
def scraped(finished):
    with serve_metrics("0", finished.space) as url:
        return scrape(url)


@pytest.fixture(scope="module")
def state(finished):
    with finished.opened() as (study, ledger):
        return status(study, ledger)


def test_trials_are_counted_by_outcome(scraped, state):
    assert Counter({of[0]: n for (name, *of), n in scraped.items() if name == "trials_total"}) == state.outcomes


def test_trainings_and_times_are_those_of_status(scraped, state):
    assert (scraped["trainings_total",], scraped["trainings_left",], scraped["trainings_claimed",]) == (8, 0, 0)
    for name, key in (("trainer", "trainer"), ("device", "device"), ("reused", "reused"), ("run", "wall")):
        assert scraped[f"{name}_seconds_total",] == getattr(state, f"{key}_seconds")
    assert scraped["busy_share",] == state.busy_share
    assert scraped["devices_waiting",] == 0


def test_the_hypervolume_is_that_of_the_front(scraped, finished, state):
    with finished.opened() as (study, ledger):
        points = read_front(study, ledger).points
    objectives = list(state.objectives)
    losses = [loss(objectives, point.metrics.values) for point in points]
    expected = hypervolume(losses, loss(objectives, state.reference_point))
    assert scraped["hypervolume",] == pytest.approx(expected)
    assert scraped["front_models",] == len(points)


@dataclass
class Scraping(Silent):
    """Asks for the metrics whenever a trial has ended."""

    url: str
    samples: list = field(default_factory=list)

    def ended(self, number, record):
        self.samples.append(scrape(self.url))


def test_a_run_is_seen_while_it_runs(make_study):
    study = make_study(trials=2)
    with serve_metrics("127.0.0.1:0", study.space) as url:
        before, scraping = scrape(url), Scraping(url)
        claimed = []

        def look(job):
            if isinstance(job, TrainJob):
                claimed.append(scrape(url)["trainings_claimed",])

        replace(study, progress=scraping, runner=FakeRunner(before=look)).run()
        after = scrape(url)
    assert before == {("database_up",): 0}, "there is no study yet"
    done = [sum(n for (name, *_), n in scraped.items() if name == "trials_total") for scraped in scraping.samples]
    assert done == list(range(1, len(done) + 1))
    assert (after["database_up",], after["trainings_total",]) == (1, 2)
    assert claimed == [1, 1]


def test_budgets_have_what_is_left(make_study):
    study = make_study(trials=1, trainer_budget="1h", device_budget="30m")
    study.runner.cost = lambda job: StageCost(0.25, {}, 1000.0, 0.5, "worker here/1")
    study.run()
    with serve_metrics("0", study.space) as url:
        scraped = scrape(url)
    assert scraped["budget_left_seconds", "trainers"] == 3600 - scraped["trainer_seconds_total",] < 3600
    assert scraped["budget_left_seconds", "devices"] == 1800 - scraped["device_seconds_total",]
    assert ("budget_left_seconds", "run") not in scraped


def test_a_database_that_fails_is_opened_again(make_study, monkeypatch, warnings_of):
    heard = warnings_of("vitsearch.search.observers.prometheus")
    study = make_study(trials=1)
    study.run()

    def fail(*_):
        raise ValueError("gone")

    with serve_metrics("0", study.space) as url:
        with monkeypatch.context() as patch:
            patch.setattr("vitsearch.search.observers.prometheus.status", fail)
            assert scrape(url) == {("database_up",): 0}
        assert scrape(url)["database_up",] == 1
    assert heard == ["the metrics could not be read: gone"]


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("9464", "127.0.0.1", 9464), ("0.0.0.0:9464", "0.0.0.0", 9464), ("[::1]:80", "::1", 80), (":80", "127.0.0.1", 80)],
)
def test_an_address_is_a_port_of_this_machine_unless_it_has_a_host(text, host, port):
    assert Address.parse(text) == Address(host, port)


@pytest.mark.parametrize("text", ["", "http", "host:", "65536", "-1"])
def test_other_addresses_are_refused(text):
    with pytest.raises(ResourceError, match="is not valid: write PORT or HOST:PORT"):
        Address.parse(text)


def test_a_port_that_is_taken_is_refused(space):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(ResourceError, match=f"127.0.0.1:{port}: Address already in use"),
            serve_metrics(str(port), space),
        ):
            pass


def test_a_missing_library_is_named_with_its_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    assert "pip install 'vitsearch[metrics]'" in Prometheus().missing()


class TestPrometheus(ObserverTests):
    name = "prometheus"
    unusable = "no port"

    @pytest.fixture
    def setting(self):
        return "0"


def ask(url, host, method="GET"):
    address = urlsplit(url)
    with closing(http.client.HTTPConnection(address.hostname, address.port, timeout=30)) as connection:
        connection.putrequest(method, "/metrics", skip_host=True)
        if host is not None:
            connection.putheader("Host", host)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "10.0.0.1", "", None, "a b", "[::1"]
)
def test_a_site_that_stands_for_this_machine_gets_nothing(finished, host):
    with serve_metrics("0", finished.space) as url:
        status, text = ask(url, host)
    assert status == 421
    assert "vitsearch_" not in text


@pytest.mark.parametrize("host", ["127.0.0.1:9464", "localhost", "LocalHost.:1", "[::1]:9464"])
def test_names_of_this_machine_are_answered(finished, host):
    with serve_metrics("0", finished.space) as url:
        assert ask(url, host)[0] == 200


def test_a_server_for_the_network_answers_to_numbers_and_its_own_names(finished):
    with serve_metrics("0.0.0.0:0", finished.space) as url:
        for host, status in [("10.1.2.3:9464", 200), (socket.gethostname(), 200), ("evil.example", 421)]:
            assert ask(url.replace("0.0.0.0", "127.0.0.1"), host)[0] == status


def test_only_get_is_answered_with_metrics(finished):
    with serve_metrics("0", finished.space) as url:
        assert ask(url, "localhost", "POST")[0] == 405
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port)) as client:
            client.sendall(b"no request\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 400 Bad Request")


def test_a_header_that_cannot_be_read_is_answered(finished):
    with serve_metrics("0", finished.space) as url:
        request = urllib.request.Request(url, headers={"Accept": "text/plain; version=x.y.z"})
        with pytest.raises(urllib.error.HTTPError, match="400"):
            urllib.request.urlopen(request, timeout=30)


@pytest.mark.long
@pytest.mark.parametrize("trickle", [b"", b"GET /"], ids=["nothing", "bytes"])
def test_half_open_connections_end_and_block_nobody(finished, monkeypatch, trickle):
    """200 clients that send nothing, or a byte now and then."""
    monkeypatch.setattr("vitsearch_agent.server.http.rate_limits.HEAD_S", 3.0)
    with serve_metrics("0", finished.space) as url, ExitStack() as closing_all:
        address = urlsplit(url)
        at = (address.hostname, address.port)
        clients = [closing_all.enter_context(socket.create_connection(at)) for _ in range(200)]
        assert ask(url, "localhost")[0] == 200
        assert closed_by_server(clients, trickle) == 200


def test_a_study_that_was_deleted_has_no_metrics(make_study):
    study = make_study(trials=1)
    study.run()
    with serve_metrics("0", study.space) as url:
        assert scrape(url)["trainings_total",] == 1
        for path in study.folder.glob("fake.db*"):
            path.unlink()
        assert scrape(url) == {("database_up",): 0}
        study.run()
        assert scrape(url)["trainings_total",] == 1


@pytest.mark.parametrize(("bound", "host", "is_known"), [
    ("trainer.example", "trainer.example:9464", True),
    ("trainer.example", "10.0.0.5:9464", True),
    ("trainer.example", "other.example:9464", False),
    ("10.0.0.5", "10.0.0.5", True),
    ("::", "[fd00::5]:9464", True),
    ("::1", "10.0.0.5", False),
])  # fmt: skip
def test_the_names_of_a_server_are_its_host_and_those_of_its_machine(bound, host, is_known):
    assert (host in HostNames.of(bound)) == is_known
