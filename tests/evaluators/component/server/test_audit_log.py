import json
import os
import stat

import pytest

from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.server import audit_log
from vitsearch_agent.server.audit_log import AuditLog


@pytest.fixture
def path(tmp_path):
    return tmp_path / "audit.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_it_logs_requests_and_their_outcomes(faulty_agent, faulty_client, blob, tiny_protocol, tmp_path, until):
    measured = faulty_client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol)
    with pytest.raises(MeasurementFailed):
        faulty_client.measure(blob, "faults", {"fault": "exit_code"}, tiny_protocol)
    path = tmp_path / "state" / "audit.jsonl"
    entries = until(lambda: lines(path)[4:] and lines(path), "the line of the end, which comes behind the answer")
    assert [line["what"] for line in entries] == ["upload", "job", "ended", "job", "ended"]
    upload, job, ended, _, failed = entries
    assert upload["digest"] == job["digest"] == measured.artifact
    assert (job["owner"], job["address"], job["job"]) == ("study", "127.0.0.1", measured.job_id)
    assert (ended["job"], ended["state"], ended["error"]) == (measured.job_id, "done", None)
    assert (failed["state"], failed["error"]) == ("failed", "crash")
    assert faulty_agent.token not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_refusal_names_the_address_and_never_the_token(agent, ask, tmp_path):
    for _ in range(5):
        assert ask("GET", "/v1/device", headers={"Authorization": "Bearer guess-guess-guess"})[0] == 401
    assert ask("PUT", "/v1/jobs/" + "a" * 64, b"{")[0] == 400
    entries = lines(tmp_path / "state" / "audit.jsonl")
    assert [(line["what"], line["code"]) for line in entries] == [
        ("refused", "unauthorized"),
        ("refused", "invalid_request"),
    ]
    assert "guess" not in json.dumps(entries)


def test_refusals_are_logged_once_a_minute(path):
    now = [0.0]
    log = AuditLog(str(path), clock=lambda: now[0])
    for second in range(150):
        now[0] = float(second)
        log.refused("10.0.0.7", "GET /", "unauthorized")
    assert len(lines(path)) == 3
    for number in range(1000):
        log.refused(f"10.0.1.{number}", "GET /", "unauthorized")
    assert len(log._refused_at) <= audit_log._REFUSALS_REMEMBERED


def test_it_is_rotated_by_size(path, monkeypatch):
    monkeypatch.setattr(audit_log, "FILE_MAX_BYTES", 1000)
    log = AuditLog(str(path))
    for number in range(200):
        log.write("job", number=number, text="x" * 1000)
    names = sorted(os.listdir(str(path.parent)))
    assert names == ["audit.jsonl", "audit.jsonl.1", "audit.jsonl.2", "audit.jsonl.3"]
    kept = [line["number"] for name in reversed(names) for line in lines(path.parent / name)]
    assert kept == list(range(200 - len(kept), 200))
    assert all((path.parent / name).stat().st_size <= 1000 for name in names)


def test_a_full_disk_loses_lines_and_counts_them(tmp_path):
    path = tmp_path / "folder" / "audit.jsonl"
    log = AuditLog(str(path))
    log.write("job")
    log.write("job")
    path.parent.mkdir()
    log.write("job")
    log.write("job")
    assert [line.get("lost") for line in lines(path)] == [2, None]
