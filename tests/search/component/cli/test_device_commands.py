"""`vitsearch devices` against a real agent that speaks TLS."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from support import SPACE_FILES
from vitsearch.cli import device_commands, device_tables
from vitsearch.cli.json_forms import json_form
from vitsearch.devices import descriptions
from vitsearch.errors import DeviceLost, ResourceError, UnknownName
from vitsearch.search.check import check_devices, check_space
from vitsearch.search.open_device import open_device
from vitsearch.space import load
from vitsearch.study.study import Study
from vitsearch_agent.base import processes, tokens
from vitsearch_agent.client.client import DeviceClient
from vitsearch_agent.client.transport import Transport
from vitsearch_agent.wire.protocol import PROTOCOL_VERSION, SCREEN, BlobRef, JobSpec, Owner, job_id

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command here")

PATIENCE_S = 60.0
SMALL = Path(SPACE_FILES, "small.yaml")


class TlsAgent:
    """An agent with TLS on loopback."""

    def __init__(self, state):
        self.token_file = state / tokens.FILE_NAME
        port_file = state.parent / "port.json"
        command = [sys.executable, "-m", "vitsearch_agent", "serve", "--tls", "--exit-with-stdin"]
        command += ["--state", str(state), "--port-file", str(port_file)]
        with open(state.parent / "agent.log", "wb") as log:
            environment = processes.with_package_path(dict(os.environ))
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=log, env=environment)
        end = time.monotonic() + PATIENCE_S
        while not port_file.exists():
            assert self.process.poll() is None, "the agent did not start"
            assert time.monotonic() < end, "the agent takes too long to start"
            time.sleep(0.02)
        where = json.loads(port_file.read_text())
        self.fingerprint, self.device_id = where["fingerprint"], where["device_id"]
        self.url = f"https://127.0.0.1:{where['port']}"

    @property
    def token(self):
        return tokens.read_tokens(str(self.token_file))[0]

    def client(self):
        return DeviceClient(self.url, self.token, fingerprint=self.fingerprint)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


@pytest.fixture(scope="module")
def agent(tmp_path_factory):
    agent = TlsAgent(tmp_path_factory.mktemp("device") / "state")
    yield agent
    agent.close()


@pytest.fixture(autouse=True)
def book(tmp_path, monkeypatch):
    """The file of devices in a temporary configuration folder."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "vitsearch" / "devices.json"


def devices(*arguments, stdin=""):
    """Run a command: return its result, or raise its error."""
    done = CliRunner().invoke(device_commands.app, list(arguments), input=stdin, env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def as_json(*arguments, stdin=""):
    value = json.loads(devices(*arguments, "--json", stdin=stdin).stdout)
    jsonschema.validate(value, json_form(f"devices {arguments[0]}"))
    return value


@pytest.fixture
def nano(agent):
    added = as_json("add", agent.url, "nano", "--fingerprint", agent.fingerprint, stdin=agent.token + "\n")
    assert added["reachable"]
    return "nano"


def test_a_device_is_added_listed_and_removed(agent, nano, book):
    stored = json.loads(book.read_text())["devices"]["nano"]
    assert stored == {"url": agent.url, "token": agent.token, "fingerprint": agent.fingerprint}
    ((row),) = as_json("list")
    assert (row["name"], row["reachable"], row["kind"], row["queued"]) == ("nano", True, "physical", 0)
    assert "nano" in devices("list").stdout
    assert as_json("remove", "nano") == {"removed": "nano"}
    assert as_json("list") == []
    assert "To add one" in devices("list").stdout


def test_the_token_is_never_shown(agent, nano):
    for command in (["list"], ["status", "nano"], ["list", "--json"], ["status", "nano", "--json"]):
        assert agent.token not in devices(*command).output


def test_the_user_confirms_the_certificate_once(agent, monkeypatch):
    monkeypatch.setattr(device_commands, "_is_interactive", lambda: True)
    done = devices("add", agent.url, "nano", stdin=f"n\n{agent.token}\n")
    assert done.exit_code == 1
    assert agent.fingerprint in done.output
    assert as_json("list") == []
    assert "devices: [nano]" in devices("add", agent.url, "nano", stdin=f"y\n{agent.token}\n").output
    assert "certificate" not in devices("add", agent.url, "nano", stdin=f"{agent.token}\n").output


def test_without_a_terminal_the_fingerprint_is_required(agent):
    with pytest.raises(ResourceError, match="--fingerprint"):
        devices("add", agent.url, stdin=agent.token)


def test_the_token_is_read_from_a_file(agent):
    added = as_json("add", agent.url, "--fingerprint", agent.fingerprint, "--token-file", str(agent.token_file))
    assert added["name"] == "127-0-0-1"


@pytest.mark.parametrize(
    ("pin", "token", "message"),
    [
        ("sha256:" + "ab" * 32, None, "is pinned.*new --fingerprint"),
        (None, "t" * 64, "the token is missing, wrong"),
        (None, "x", "32"),
    ],
)
def test_a_device_that_refuses_is_not_stored(agent, pin, token, message, book):
    with pytest.raises((DeviceLost, ResourceError), match=message):
        devices("add", agent.url, "--fingerprint", pin or agent.fingerprint, stdin=token or agent.token)
    assert not book.exists()


def test_the_token_is_not_sent_unencrypted_to_a_tls_agent(agent, monkeypatch):
    headers, request = [], Transport.request

    def noted(self, method, path, *more, **named):
        headers.append(self._headers(None))
        return request(self, method, path, *more, **named)

    monkeypatch.setattr(Transport, "request", noted)
    with pytest.raises(DeviceLost, match="its address begins with https://"):
        devices("add", agent.url.replace("https", "http"), stdin=agent.token)
    assert headers == [{}]


def test_an_unavailable_device_is_listed_with_the_reason(nano, book):
    content = json.loads(book.read_text())
    content["devices"]["gone"] = {"url": "https://127.0.0.1:9", "token": None, "fingerprint": None}
    book.write_text(json.dumps(content))
    here, gone = as_json("list")
    assert (gone["name"], gone["reachable"], here["reachable"]) == ("gone", False, True)
    assert "refused" in gone["reason"]
    assert "unavailable" in devices("list").stdout
    with pytest.raises(DeviceLost, match="gone"):
        devices("status", "gone")


def test_status_shows_identity_runtimes_and_conditions(agent, nano):
    status = as_json("status", "nano")
    assert status["device_id"] == agent.device_id
    assert {"onnxruntime", "noop"} <= {runtime["name"] for runtime in status["runtimes"]}
    assert status["queue"] == []
    assert (status["conditions"]["temperature_c"] is None) == (status["conditions"]["reason"] is not None)
    shown = devices("status", "nano").stdout
    for heading in ("board", "environment", "memory", "temperature", "power meter", "runtime", "queue"):
        assert heading in shown


def test_a_description_of_a_device_judges_a_space_without_it(agent, nano, tmp_path):
    path = tmp_path / "nano.json"
    path.write_text(devices("describe", "nano").stdout)
    described = descriptions.find(str(path))
    assert described.info.device_id == agent.device_id
    assert described.sources["device"].startswith("Recorded from the agent of nano on 20")
    checked = check_devices(check_space(SMALL), [described])
    assert {judgement.reason for judgement in checked.devices[0].judged} == {None}


def test_a_space_file_needs_only_the_name_of_the_device(agent, nano, tmp_path):
    space = load(SMALL, ["devices=[nano]", f"storage=sqlite:///{tmp_path}/small.db"]).space
    with closing(Study.open(space)) as study, open_device(study, space, None, print) as device:
        assert device.info.device_id == agent.device_id


def submit(agent, study, busy_us):
    """Queue a job that keeps the device busy for a while, and return at once."""
    content = study.encode() * 100
    blob = BlobRef("model.onnx", hashlib.sha256(content).hexdigest(), len(content))
    protocol = SCREEN._replace(id="long", timeout_s=PATIENCE_S, max_s=PATIENCE_S, min_s=PATIENCE_S)
    spec = JobSpec("measure", (blob,), "noop", {"busy_us": busy_us}, protocol)
    identifier = job_id(spec, agent.device_id)
    with agent.client() as client:
        headers = {"Upload-Offset": "0", "Upload-Length": str(blob.size)}
        client._transport.request("PATCH", f"/v1/blobs/{blob.sha256}", content, headers)
        body = {
            "api": PROTOCOL_VERSION,
            "device_id": agent.device_id,
            "owner": Owner(study, 7).to_json(),
            "spec": spec.to_json(),
        }
        client._transport.request("PUT", f"/v1/jobs/{identifier}", body)
    return identifier


def test_the_queue_shows_owners_and_a_job_is_cancelled(agent, nano):
    first, second = submit(agent, "anna\x1b[2J", 1000), submit(agent, "ben", 1000)
    queue = as_json("status", "nano")["queue"]
    assert [(job["id"], job["study"], job["trial"]) for job in queue] == [(first, "anna\x1b[2J", 7), (second, "ben", 7)]
    assert {job["kind"] for job in queue} == {"measure"}
    assert queue[1]["last"] is None
    assert "anna" in devices("status", "nano").stdout
    with pytest.raises(UnknownName, match=first[:12]):
        devices("cancel", "nano", "zz")
    with pytest.raises(ResourceError, match="the ids of 2 jobs begin with ''"):
        devices("cancel", "nano", "")
    assert as_json("cancel", "nano", second[:8])["state"] == "cancelled"
    shown = devices("cancel", "nano", first).stdout
    assert f"{first[:12]} of anna\\x1b[2J" in shown
    with agent.client() as client:
        end = time.monotonic() + PATIENCE_S
        while client.jobs() and time.monotonic() < end:
            time.sleep(0.05)
        assert client.jobs() == []
    with pytest.raises(ResourceError, match="device nano: no job is waiting or running"):
        devices("cancel", "nano", first)


def test_a_rotated_token_is_replaced_without_confirmation(agent, nano):
    tokens.rotate(str(agent.token_file), keep_old=False)
    ((row),) = as_json("list")
    assert not row["reachable"]
    assert row["reason"].endswith(
        f"rotated or is wrong; with the right token, run: vitsearch devices add {agent.url} nano"
    )
    assert as_json("add", agent.url, "nano", stdin=agent.token)["reachable"]


@pytest.mark.long
def test_the_peaks_are_measured_once(agent, nano):
    rates = as_json("peaks", "nano", "--runtime", "noop", "--threads", "1")
    assert (rates["name"], rates["gemm"]) == ("nano", [])
    assert "noop gives no outputs" in rates["reasons"]["fp32"]
    assert as_json("peaks", "nano", "--runtime", "noop", "--threads", "1") == rates
    shown = devices("peaks", "nano", "--runtime", "noop", "--threads", "1").stdout
    assert f"{rates['copy_gb_per_s']['best']:.4g} GB/s" in shown
    assert "fp32: noop gives no outputs" in shown


@pytest.mark.long
def test_peaks_are_printed_as_a_table_with_notes(capsys):
    rate = {"best": 91.53, "median": 90.0, "n": 12}
    rates = {
        "name": "nano",
        "gemm": [{"precision": "int8", "threads": 4, "size": 1024, "gflops": rate}],
        "copy_gb_per_s": rate,
        "reasons": {"fp16": "it refuses"},
        "runtime": "onnxruntime",
        "runtime_version": "1.20",
        "environment_id": "ab" * 32,
        "temperature_c": 48.25,
        "wait_over_cpu": 0.25,
        "started_at": "2026-11-25T12:00:00Z",
        "emulated": True,
    }
    device_tables.print_peaks(rates)
    shown = capsys.readouterr().out
    assert "91.53 GFLOP/s" in shown
    for line in (
        "fp16: it refuses",
        "waited 25% of the time",
        "EMULATED",
        "onnxruntime 1.20, environment abababababab",
    ):
        assert line in shown
