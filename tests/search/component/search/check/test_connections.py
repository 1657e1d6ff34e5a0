"""What a run needs beside this machine is tried before it starts, all of it at once, and nothing is left there."""

from __future__ import annotations

import json
import socket
import time
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import fsspec
import pytest
from huggingface_hub import constants
from sqlalchemy import make_url
from typer.testing import CliRunner

from support.marks import long
from support.real_search import APART, write_images
from support.s3_server import s3_server
from vitsearch.cli.app import app
from vitsearch.errors import DeviceLost, NotReady, StudyError, WeightsError
from vitsearch.pipeline.progress import Silent
from vitsearch.search import run
from vitsearch.search.check import connections
from vitsearch.search.check.connections import try_connections, try_patiently
from vitsearch.search.check.probes import Probe
from vitsearch.space import SearchSpace
from vitsearch.storage.ledger import Ledger
from vitsearch.storage.ownership_notes import put_note
from vitsearch_agent.client.embedded_agent import EmbeddedAgent

DEIT = "deit_tiny_patch16_224"


@pytest.fixture(autouse=True)
def times(monkeypatch):
    """An agent that refuses is not asked again: nothing starts here. What answers may take its time on a busy
    machine."""
    monkeypatch.setattr(connections, "STARTING_S", 0.0)
    monkeypatch.setattr(connections, "ANSWER_S", 60.0)


@pytest.fixture
def changed(space):
    """changed(key=value): the space of the tests with other keys."""
    return lambda **keys: SearchSpace.from_json(space.to_json() | keys)


@pytest.fixture
def closed_port():
    """A port on which nobody listens, kept from others."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


@pytest.fixture
def hanging_port():
    """A port that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """hub(port): the hub is there, and nothing was downloaded yet."""

    def at(port):
        url = f"http://127.0.0.1:{port}"
        template = url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "ENDPOINT", url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    return at


@pytest.fixture
def s3(monkeypatch):
    """A server of files, found by what is opened from now on."""
    with s3_server() as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        yield fsspec.filesystem("s3", skip_instance_cache=True)
        fsspec.get_filesystem_class("s3").clear_instance_cache()


@pytest.fixture
def answering_hub(hub):
    """A hub that has one repository; the paths that were asked for."""
    paths = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            paths.append(self.path)
            is_there = "deit_tiny" in self.path and self.path.endswith(".safetensors")
            self.send_response(200 if is_there else 404)
            self.send_header("X-Error-Code", "" if is_there else "RepoNotFound")
            self.send_header("ETag", '"0"')
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        hub(server.server_address[1])
        yield paths
        server.shutdown()


def with_backbones(space, *names, weights="hub"):
    value = space.to_json()
    value["space"] |= {"backbone": [{"name": name, "weights": weights} for name in names], "resolution": [224]}
    return SearchSpace.from_json(value | {"baseline": None})


def answer_texts(tried):
    return {answer.probe.what: answer.text for answer in tried.answers}


def problems(tried):
    return [str(problem) for problem in tried.problems]


def files_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_new_study_on_this_machine_needs_nothing_and_nothing_is_made(space, tmp_path):
    tried = try_connections(space)
    assert answer_texts(tried) == {
        "storage": "can be used; it has no studies yet",
        "files": "a small file was written and deleted",
        "study": "a new one",
    }
    assert (problems(tried), files_in(tmp_path)) == ([], [])


def test_everything_that_is_away_is_named_in_one_message(changed, closed_port, hanging_port, hub, s3, monkeypatch):
    hub(closed_port)
    monkeypatch.setattr(connections, "ANSWER_S", 5.0)
    space = with_backbones(
        changed(
            storage=f"postgresql+psycopg://me:secret@127.0.0.1:{closed_port}/vit",
            files="s3://no-such-bucket/vit",
            devices={
                "dead": {"url": f"http://127.0.0.1:{closed_port}"},
                "hung": {"url": f"http://127.0.0.1:{hanging_port}"},
            },
        ),
        DEIT,
    )
    tried = try_connections(space)
    database, files, dead, hung, weights = problems(tried)
    assert database.startswith(f"storage postgresql+psycopg://me:***@127.0.0.1:{closed_port}/vit cannot be opened: ")
    assert (
        "Connection refused; is it up, and are host, port, database, user and password in 'storage' right?" in database
    )
    assert "files s3://no-such-bucket/vit cannot be written: The specified bucket does not exist" in files
    assert f"device dead: http://127.0.0.1:{closed_port}: " in dead
    assert "start its agent there (vitsearch-agent serve)" in dead
    assert f"device hung: http://127.0.0.1:{hanging_port} does not answer within 5 s;" in hung
    assert f"weights of the hub: {DEIT} (weights: hub): the hub does not answer" in weights
    assert "'weights: none'" in weights
    assert "file:PATH" in weights
    with pytest.raises(NotReady) as raised:
        tried.require("the study was not started")
    assert str(raised.value).count("\n") == 5
    assert "secret" not in str(raised.value)


def test_a_run_says_it_before_it_starts_anything(changed, closed_port, monkeypatch):
    monkeypatch.setattr(run, "RayRunner", None)
    space = changed(
        storage=f"postgresql+psycopg://me@127.0.0.1:{closed_port}/vit",
        devices={"dead": {"url": f"http://127.0.0.1:{closed_port}"}},
    )
    with pytest.raises(NotReady, match="study 'fake' was not started: 2 problems"):
        run.run(space, Silent())
    assert not run.StudyFolders.of(space).own.exists()


def test_a_run_is_patient_where_something_is_slow_and_nothing_wrong(monkeypatch):
    monkeypatch.setattr(connections, "ANSWER_S", 0.1)
    notes = []
    slow = Probe("device slow", "http://slow", lambda: time.sleep(0.5) or "answers", "wake it up")
    assert problems(try_patiently([slow], notes.append)) == []
    assert notes == ["device slow: http://slow does not answer within 0.1 s; wake it up; asking once more, for 30 s"]


# ---- the database and the study


@pytest.mark.long
def test_a_server_that_knows_no_such_user_is_named(changed, postgresql):
    url = make_url(postgresql()).set(username="nobody_here").render_as_string(hide_password=False)
    (problem,) = problems(try_connections(changed(storage=url)))
    assert 'role "nobody_here" does not exist' in problem


def test_a_user_who_may_make_no_tables_is_named(changed, postgresql):
    from sqlalchemy import create_engine, text

    url = make_url(postgresql())
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("DROP ROLE IF EXISTS reader"))
        connection.execute(text("CREATE ROLE reader LOGIN"))
        connection.execute(text("REVOKE CREATE ON SCHEMA public FROM PUBLIC"))
    engine.dispose()
    reader = url.set(username="reader").render_as_string(hide_password=False)
    (problem,) = problems(try_connections(changed(storage=reader)))
    assert "cannot be written: user 'reader' may not make tables there" in problem


def test_an_empty_database_on_a_server_stays_empty(changed, postgresql):
    from sqlalchemy import create_engine, inspect

    url = postgresql()
    assert answer_texts(try_connections(changed(storage=url)))["study"] == "a new one"
    engine = create_engine(url)
    assert inspect(engine).get_table_names() == []
    engine.dispose()


def test_a_changed_objective_is_said_without_a_run(finished, changed):
    same = try_connections(finished.space)
    assert "exists" in answer_texts(same)["study"]
    value = finished.space.to_json()
    value["objectives"] = {"accuracy": "maximize", "params_m": "minimize"}
    tried = try_connections(SearchSpace.from_json(value))
    with pytest.raises(StudyError, match="study 'fake' cannot continue with another objective"):
        tried.require("")


def test_files_that_the_database_has_elsewhere_are_said(changed, space, tmp_path):
    with closing(Ledger.open(space.storage)) as ledger:
        ledger.inventory.adopt_files_place(str(tmp_path / "first"))
    (problem,) = problems(try_connections(changed(files=str(tmp_path / "second"))))
    assert f"are in {tmp_path / 'first'}, not in {tmp_path / 'second'}: leave 'files' out" in problem
    assert "which the database names" in answer_texts(try_connections(space))["files"]
    assert not any((tmp_path / name).exists() for name in ("first", "second"))


# ---- the place of the files


def test_a_folder_of_others_is_refused_and_stays_as_it_is(space, tmp_path):
    folder = tmp_path / "fake.files" / "artifacts"
    folder.mkdir(parents=True)
    (folder / "thesis.txt").write_text("mine")
    (problem,) = problems(try_connections(space))
    assert "is not empty and has no note of vitsearch" in problem
    assert files_in(folder) == ["thesis.txt"]


def test_a_folder_of_ours_is_tried_and_stays_as_it_is(space, tmp_path):
    folder = tmp_path / "fake.files" / "artifacts"
    folder.mkdir(parents=True)
    put_note(folder)
    assert problems(try_connections(space)) == []
    assert files_in(folder) == ["VITSEARCH.txt"]


def test_a_bucket_is_written_and_left_empty(changed, s3):
    s3.mkdir("team")
    tried = try_connections(changed(files="s3://team/vit"))
    s3.invalidate_cache()
    assert (problems(tried), s3.find("team")) == ([], [])
    assert answer_texts(tried)["files"] == "a small file was written and deleted"


# ---- devices


def test_a_board_that_is_away_is_no_problem_while_another_answers(changed, closed_port, tmp_path, monkeypatch):
    with EmbeddedAgent(str(tmp_path / "agent")) as agent:
        monkeypatch.setenv("VITSEARCH_BOARD", agent.token)
        here = {"url": agent.url, "token": "env:VITSEARCH_BOARD"}
        boards = {"here": here, "gone": {"url": f"http://127.0.0.1:{closed_port}"}}
        tried = try_connections(changed(devices={"pool": {"boards": boards}}))
        monkeypatch.setenv("VITSEARCH_BOARD", "0" * 64)
        refused = try_connections(changed(devices={"pool": {"boards": {"here": here}}}))
    assert problems(tried) == []
    (note,) = tried.notes
    assert "device pool, board gone" in note
    assert note.endswith("a run works without it")
    assert answer_texts(tried)["device pool, board here"].startswith("answers: here")
    (problem,) = problems(refused)
    assert f"device pool, board here: {agent.url} refuses the token" in problem
    assert f"vitsearch devices add {agent.url} here" in problem


def test_a_pool_of_which_no_board_answers_is_a_problem(changed, closed_port):
    boards = {name: {"url": f"http://127.0.0.1:{closed_port}"} for name in ("a", "b")}
    tried = try_connections(changed(devices={"pool": {"boards": boards}}))
    assert len(tried.problems) == 2
    assert all(isinstance(problem, DeviceLost) for problem in tried.problems)


# ---- weights of the hub


def test_the_hub_is_asked_only_where_its_weights_are_needed(space, answering_hub):
    assert "weights of the hub" not in answer_texts(try_connections(with_backbones(space, DEIT, weights="none")))
    assert answering_hub == []
    assert answer_texts(try_connections(with_backbones(space, DEIT)))["weights of the hub"] == f"has those of {DEIT}"
    assert len(answering_hub) == 1


def test_weights_that_the_hub_does_not_have_are_named(space, answering_hub):
    tried = try_connections(with_backbones(space, DEIT, "levit_128s"))
    with pytest.raises(WeightsError, match="levit_128s .*the hub has none at .*weights: none") as raised:
        tried.require("")
    assert DEIT not in str(raised.value)


def test_weights_in_the_cache_need_no_hub(space, hub, closed_port, tmp_path):
    hub(closed_port)
    stored = tmp_path / "hub" / "models--timm--deit_tiny_patch16_224.fb_in1k"
    (stored / "refs").mkdir(parents=True)
    (stored / "refs" / "main").write_text("0" * 40)
    (stored / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (stored / "snapshots" / ("0" * 40) / "model.safetensors").write_bytes(b"")
    assert problems(try_connections(with_backbones(space, DEIT))) == []


# ---- the command


SPACE = """
study: parts
task: {data: {source: folder, root: FOLDER/images}}
objectives: {accuracy: maximize, latency_ms_p50: minimize}
devices: {dead: {url: 'http://127.0.0.1:PORT'}}
storage: sqlite:///FOLDER/parts.db
space: {backbone: vit_fmnist_p4, resolution: 28}
"""


@pytest.mark.parametrize("arguments", [(), *long((("--json",),))])
def test_check_connects_only_when_asked_and_says_what_fails(tmp_path, closed_port, arguments):
    write_images(tmp_path / "images", APART)
    path = tmp_path / "parts.yaml"
    path.write_text(SPACE.replace("PORT", str(closed_port)).replace("FOLDER", str(tmp_path)))
    command = ["check", "--no-costs", str(path), *arguments]
    assert CliRunner().invoke(app, command).exit_code == 0
    done = CliRunner().invoke(app, [*command, "--connect"])
    assert done.exit_code == 1
    assert "a run would not start: 1 problem\n  device dead: " in done.stderr
    if arguments:
        said = {connection["what"]: connection for connection in json.loads(done.stdout)["connections"]}
        assert said["storage"]["problem"] is None
        assert "Connection refused" in said["device dead"]["problem"]
    else:
        lines = done.stdout.splitlines()
        assert lines[0].startswith("storage: ")
        assert any(line.endswith("will be trained.") for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "parts.yaml"]
