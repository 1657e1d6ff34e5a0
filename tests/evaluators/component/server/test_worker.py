"""The worker inside a real agent, driven over HTTP."""

import contextlib
import functools
import json
import os
import signal
import threading

import pytest

from support.marks import long
from support.warm_parents import warm_parents_of
from vitsearch_agent.base import locks, processes
from vitsearch_agent.base.canonical_json import file_digest
from vitsearch_agent.client.client import RequestOptions
from vitsearch_agent.client.embedded_agent import EmbeddedAgent
from vitsearch_agent.config import LimitsConfig
from vitsearch_agent.errors import EnvironmentChanged, JobCancelled, MeasurementFailed
from vitsearch_agent.measure.figures.reference_store import ReferenceStore


def read_pid(path):
    return int(path.read_text())


def in_thread(call):
    """Start `call` and return a function that waits for its result or error."""
    outcome = []

    def run():
        try:
            outcome.append(call())
        except Exception as error:  # noqa: BLE001 - handed to the test
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()

    def result():
        thread.join(300)
        return outcome[0]

    return result


def test_a_job_whose_child_was_killed_from_outside_is_repeated(
    faulty_client, blob, tiny_protocol, tmp_path, until, notes
):
    gate, note = tmp_path / "gate", notes / "pid"
    result = in_thread(
        lambda: faulty_client.measure(blob, "faults", {"gate": str(gate), "note": str(note)}, tiny_protocol)
    )
    for number in (signal.SIGKILL, signal.SIGTERM):
        until(note.exists)
        pid = read_pid(note)
        note.unlink()
        os.kill(pid, number)
    gate.write_text("open")
    assert result().attempts == 3


def test_a_crashing_model_is_tried_twice_and_the_agent_continues(faulty_client, blob, tiny_protocol):
    events = []
    with pytest.raises(MeasurementFailed) as caught:
        faulty_client.measure(
            blob, "faults", {"fault": "segfault"}, tiny_protocol, request=RequestOptions(on_event=events.append)
        )
    assert (caught.value.kind, caught.value.details["signal"]) == ("crash", "SIGSEGV")
    assert "about to read address 0" in caught.value.details["output_tail"]
    assert [event.what for event in events].count("started") == 2
    assert faulty_client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol).attempts == 1


def test_a_model_that_writes_into_its_files_does_not_change_those_of_the_next_job(faulty_client, blob, tiny_protocol):
    with contextlib.suppress(MeasurementFailed):
        faulty_client.measure(blob, "faults", {"fault": "append"}, tiny_protocol)
    again = faulty_client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol)
    assert (again.attempts, again.artifact) == (1, file_digest(blob))


def test_what_a_runtime_keeps_of_a_model_does_not_reach_another(faulty_client, blob, tiny_protocol, tmp_path):
    other = tmp_path / "other.bin"
    other.write_bytes(b"other")
    for path, note, held in ((blob, "", "nothing"), (str(other), "", "nothing"), (blob, "again", "engine")):
        with pytest.raises(MeasurementFailed, match=f"the cache holds {held}"):
            faulty_client.measure(path, "faults", {"fault": "cached", "gate": note}, tiny_protocol)


def test_the_caches_that_were_not_used_for_the_longest_time_are_removed(tmp_path):
    from vitsearch_agent.queue.blob_store import BlobStore
    from vitsearch_agent.queue.job_queue import JobQueue
    from vitsearch_agent.server import device, worker
    from vitsearch_agent.server.identity import DeviceIdentity

    queue, board = JobQueue(str(tmp_path / "jobs.sqlite")), device.Device(DeviceIdentity("device", "physical"), "1")
    measuring = worker.Worker(queue, BlobStore(str(tmp_path)), str(tmp_path / "work"), board, ReferenceStore())
    folders = [measuring._cache_of("trtexec", f"model{number}") for number in range(worker.CACHES_KEPT)]
    for age, folder in enumerate(folders):
        os.utime(folder, (1000 + age, 1000 + age))
    assert measuring._cache_of("trtexec", "model0") == folders[0]
    newest = measuring._cache_of("trtexec", "one-more")
    assert [os.path.exists(folder) for folder in (folders[0], folders[1], newest)] == [True, False, True]
    queue.close()


@pytest.mark.parametrize("content", [b"", b"x" * 900_000])
def test_a_file_that_was_damaged_in_the_store_is_sent_again(faulty_client, blob, tiny_protocol, tmp_path, content):
    faulty_client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol)
    (stored,) = (tmp_path / "state" / "blobs").iterdir()
    stored.chmod(0o644)
    stored.write_bytes(content)
    assert faulty_client.measure(blob, "noop", {"busy_us": 11}, tiny_protocol).latency_ms.n == 11
    assert file_digest(str(stored)) == file_digest(blob)


def test_a_job_waits_for_another_process_that_measures_on_this_machine(client, blob, tiny_protocol):
    path = locks.measuring_lock_path()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    lock, events = locks.try_lock(path, "a model"), []

    def on_event(event):
        events.append((event.what, event.details))
        if event.what == "waiting":
            assert [status.state for status in client.jobs()] == ["running"]
            lock.close()

    assert client.measure(blob, "noop", {}, tiny_protocol, request=RequestOptions(on_event=on_event))
    names = [what for what, _ in events]
    assert names.index("waiting") < names.index("phase")
    assert dict(events)["waiting"] == {"pid": os.getpid(), "measures": "a model"}


def test_a_job_that_waits_for_another_process_can_be_cancelled(client, blob, tiny_protocol, until):
    path, cancel = locks.measuring_lock_path(), threading.Event()
    os.makedirs(os.path.dirname(path), exist_ok=True)

    def on_event(event):
        if event.what == "waiting":
            cancel.set()

    with locks.try_lock(path, "a model"):
        with pytest.raises(JobCancelled):
            client.measure(blob, "noop", {}, tiny_protocol, request=RequestOptions(cancel=cancel, on_event=on_event))
        until(lambda: all(status.state == "cancelled" for status in client.jobs()))
    assert client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol)


def test_a_job_that_one_client_gives_up_goes_on_for_another_of_the_same_name(agent, client, blob, tiny_protocol, until):
    path, cancel, joined = locks.measuring_lock_path(), threading.Event(), threading.Event()
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with agent.client(client.owner) as other:
        with locks.try_lock(path, "a model"):
            watch = RequestOptions(on_event=lambda _: joined.set())
            result = in_thread(lambda: other.measure(blob, "noop", {"busy_us": 11}, tiny_protocol, request=watch))
            until(joined.is_set)
            given_up = RequestOptions(cancel=cancel, on_event=lambda _: cancel.set())
            with pytest.raises(JobCancelled):
                client.measure(blob, "noop", {"busy_us": 11}, tiny_protocol, request=given_up)
        assert result().runtime == "noop"


def test_a_job_for_another_environment_is_not_measured(client, blob, tiny_protocol):
    here = client.device().environment_id
    with pytest.raises(EnvironmentChanged) as caught:
        client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol, request=RequestOptions(environment_id="ab" * 32))
    assert caught.value.transient
    assert caught.value.details == {"wanted": "ab" * 32, "actual": here}
    assert client.jobs() == []
    measurement = client.measure(
        blob, "noop", {"busy_us": 10}, tiny_protocol, request=RequestOptions(environment_id=here)
    )
    assert measurement.environment_id == here


def test_a_runtime_that_is_upgraded_under_a_running_agent_is_another_environment(
    faulty_client, faulty_environment, blob, tiny_protocol
):
    """The first process would have the new version, those that warm parents fork the old one."""
    three = tiny_protocol._replace(id="test-three", processes=3, max_processes=3)
    before = faulty_client.device()
    measure = functools.partial(faulty_client.measure, blob, "faults", {}, three)
    assert measure().runtime_version == "1"
    upgrade(faulty_environment, "2")
    with pytest.raises(EnvironmentChanged, match=r"runtimes\.faults\.version: '2', before '1'") as caught:
        measure(1, request=RequestOptions(environment_id=before.environment_id))
    after = faulty_client.device()
    assert caught.value.details["wanted"] == before.environment_id != after.environment_id
    assert {info.name: info.version for info in after.runtimes}["faults"] == "2"
    measurement = measure(1, request=RequestOptions(environment_id=after.environment_id))
    assert (measurement.runtime_version, measurement.environment_id) == ("2", after.environment_id)
    upgrade(faulty_environment, "3")
    unpinned = measure(2)
    assert (unpinned.runtime_version, unpinned.environment_id) == ("3", faulty_client.device().environment_id)


def upgrade(site, version):
    with open(os.path.join(site, "version"), "w") as stream:
        stream.write(version)


def test_an_escaped_process_is_killed_before_the_next_job(faulty_client, blob, tiny_protocol, notes):
    options = {"fault": "escape", "note": str(notes / "pid")}
    assert faulty_client.measure(blob, "faults", options, tiny_protocol).latency_ms.n == 11
    assert processes.identify(read_pid(notes / "pid.escaped")) is None


def test_an_agent_killed_while_measuring_repeats_the_job(
    faulty_agent, faulty_client, blob, tiny_protocol, tmp_path, until, notes
):
    gate = tmp_path / "gate"
    options = {"gate": str(gate), "note": str(notes / "pid")}
    result = in_thread(lambda: faulty_client.measure(blob, "faults", options, tiny_protocol))
    until((notes / "pid").exists)
    child = read_pid(notes / "pid")
    os.kill(faulty_agent.pid, signal.SIGKILL)
    until(lambda: processes.identify(child) is None, "the child to die with the agent")
    gate.write_text("open")
    measurement = result()
    assert measurement.attempts == 2
    assert measurement.latency_ms.n == 11


@pytest.mark.long
def test_an_agent_killed_too_often_gives_the_job_up(faulty_agent, faulty_client, blob, tiny_protocol, until, notes):
    note = notes / "pid"
    options = {"gate": "/never/there", "note": str(note)}
    result = in_thread(lambda: faulty_client.measure(blob, "faults", options, tiny_protocol))
    for _ in range(LimitsConfig().interruptions_max):
        until(note.exists)
        note.unlink()
        os.kill(faulty_agent.pid, signal.SIGKILL)
    error = result()
    assert isinstance(error, MeasurementFailed)
    assert error.kind == "interrupted"


@pytest.mark.long
def test_stopping_the_service_with_its_children_does_not_count_as_an_interruption(
    faulty_agent, faulty_client, blob, tiny_protocol, tmp_path, until, notes
):
    """systemd ends all processes of a unit at once, and the child may get the signal first."""
    gate, note = tmp_path / "gate", notes / "pid"
    options = {"gate": str(gate), "note": str(note)}
    result = in_thread(lambda: faulty_client.measure(blob, "faults", options, tiny_protocol))
    until(note.exists)
    for pid in (read_pid(note), faulty_agent.pid):
        os.kill(pid, signal.SIGTERM)
    gate.write_text("open")
    measurement = result()
    assert measurement.attempts == 2
    assert "interrupted" not in [event.what for event in faulty_client.events(measurement.job_id)]


def test_jobs_of_two_clients_are_measured_one_at_a_time(faulty_agent, blob, tiny_protocol, tmp_path, until, notes):
    gates = [tmp_path / "gate-a", tmp_path / "gate-b"]
    notes = [notes / "pid-a", notes / "pid-b"]
    clients = [faulty_agent.client("a"), faulty_agent.client("b")]
    results = [
        in_thread(
            lambda client=client, gate=gate, note=note: client.measure(
                blob, "faults", {"gate": str(gate), "note": str(note)}, tiny_protocol
            )
        )
        for client, gate, note in zip(clients, gates, notes)  # noqa: B905 - Python 3.6
    ]
    until(lambda: any(note.exists() for note in notes))
    until(lambda: clients[0].device().queued == 1)
    assert clients[0].device().running == 1
    assert sum(note.exists() for note in notes) == 1
    assert {job.owner.study for job in clients[0].jobs()} == {"a", "b"}
    for gate in gates:
        gate.write_text("open")
    for result in results:
        assert result().latency_ms.n == 11
    for client in clients:
        client.close()


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor: no two sets of them")
def test_a_request_for_an_environment_is_not_answered_from_another_one(tmp_path, blob, tiny_protocol):
    """The processors that the agent may use are part of its environment."""
    state, environments = str(tmp_path / "state"), []
    for cpus in ("0,1", "0"):
        with EmbeddedAgent(state, cpus=cpus) as agent, agent.client("s") as client:
            here = client.device().environment_id
            unpinned = client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol)
            pinned = client.measure(
                blob, "noop", {"busy_us": 10}, tiny_protocol, request=RequestOptions(environment_id=here)
            )
        environments.append((here, unpinned.environment_id, pinned.environment_id))
    (first, *_), (second, *_) = environments
    assert environments == [(first, first, first), (second, first, second)]
    assert first != second


@pytest.mark.parametrize("by", ["request", *long("event")])
def test_cancelling_a_running_job_ends_its_child(faulty_client, blob, tiny_protocol, until, by, notes):
    options = {"gate": "/never/there", "note": str(notes / "pid")}
    cancel = threading.Event()
    result = in_thread(
        lambda: faulty_client.measure(blob, "faults", options, tiny_protocol, request=RequestOptions(cancel=cancel))
    )
    until((notes / "pid").exists)
    if by == "event":
        cancel.set()
    else:
        faulty_client.cancel(faulty_client.jobs()[0].id)
    assert isinstance(result(), JobCancelled)
    until(lambda: processes.identify(read_pid(notes / "pid")) is None)
    assert faulty_client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol).latency_ms.n == 11


def test_work_folders_are_removed(agent, client, blob, tiny_protocol, tmp_path, until):
    client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol)
    work = str(tmp_path / "state" / "work")
    until(lambda: [name for name in os.listdir(work) if len(name) == 64] == [])


def test_an_upload_during_a_measurement_is_flagged(
    faulty_agent, faulty_client, blob, tiny_protocol, tmp_path, until, notes
):
    gate = tmp_path / "gate"
    options = {"gate": str(gate), "note": str(notes / "pid")}
    result = in_thread(lambda: faulty_client.measure(blob, "faults", options, tiny_protocol))
    until((notes / "pid").exists)
    (tmp_path / "other").write_bytes(b"other")
    with faulty_agent.client("other") as other:
        other.upload(str(tmp_path / "other"))
    gate.write_text("open")
    assert "concurrent_io" in result().flags


def test_a_child_that_cannot_be_started_fails_the_job_and_not_the_worker(tmp_path, blob, tiny_protocol, monkeypatch):
    """OSError from Popen once ended the thread, and the job never ended."""
    from vitsearch_agent.measure import child_process
    from vitsearch_agent.queue.blob_store import BlobStore
    from vitsearch_agent.queue.job_queue import JobQueue
    from vitsearch_agent.server import worker
    from vitsearch_agent.server.device import Device
    from vitsearch_agent.server.identity import DeviceIdentity
    from vitsearch_agent.wire.protocol import BlobRef, JobSpec, Owner

    def refuse(*arguments, **more):
        raise OSError(8, "Exec format error")

    monkeypatch.setattr(child_process.subprocess, "Popen", refuse)
    queue = JobQueue(str(tmp_path / "jobs.sqlite"))
    store = BlobStore(str(tmp_path))
    store.append(X_SHA256, 0, 1, b"x")
    device = Device(DeviceIdentity("d", "physical"), "0")
    thread = worker.Worker(queue, store, str(tmp_path / "work"), device, ReferenceStore())
    thread.start()
    spec = JobSpec("measure", (BlobRef("model.onnx", X_SHA256, 1),), "noop", {}, tiny_protocol)
    for number in (1, 2):
        identifier = f"{number:064x}"
        queue.put(identifier, spec, Owner("a"))
        status = queue.wait(identifier, 120.0)
        assert status.state == "failed"
        assert status.error["details"]["kind"] == "spawn"
    assert thread.is_alive()
    thread.stop()
    queue.close()
    assert json.dumps(status.error)


X_SHA256 = "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881"  # of b"x"


def test_the_settings_are_not_read_while_the_canary_is_measured(tmp_path, monkeypatch):
    """`nvpmodel` would disturb it, and be killed with the canary's children, which gives another environment."""
    from vitsearch_agent.errors import AgentError
    from vitsearch_agent.queue.blob_store import BlobStore
    from vitsearch_agent.queue.job_queue import JobQueue
    from vitsearch_agent.server import canary_measurement, device, worker
    from vitsearch_agent.server.identity import DeviceIdentity

    reads, fingerprint = [], device.fingerprint
    monkeypatch.setattr(device, "fingerprint", lambda *arguments: reads.append(arguments) or fingerprint(*arguments))

    def measure(*_arguments):
        before = len(reads)
        board.environment()
        assert len(reads) == before
        raise AgentError("enough", "seen")

    monkeypatch.setattr(canary_measurement, "measure", measure)
    queue = JobQueue(str(tmp_path / "jobs.sqlite"))
    board = device.Device(DeviceIdentity("device", "physical"), "1")
    measuring = worker.Worker(queue, BlobStore(str(tmp_path)), str(tmp_path / "work"), board, ReferenceStore())
    board.ready.set()
    measuring._check_canary()
    board.environment()
    assert len(reads) == 2, "the settings are read again after the canary"
    queue.close()


def test_an_agent_that_was_stopped_asks_the_runtimes_again_and_one_that_was_killed_does_not(serve_agent, tmp_path):
    """Whoever installs a tool or a library and starts the agent again expects that it is there."""
    cache = tmp_path / "served" / "runtimes.json"
    for number, is_left in ((signal.SIGKILL, True), (signal.SIGTERM, False)):
        served = serve_agent()
        with served.client() as client:
            client.await_device()
        served.process.send_signal(number)
        served.process.wait(60)
        assert cache.exists() == is_left


def test_a_setting_that_changes_during_the_canary_gives_no_reference(tmp_path, monkeypatch):
    """Its times would be those of neither environment, and the next canary would look like a drift."""
    from vitsearch_agent.base.system import System
    from vitsearch_agent.conditions.emulation import DeviceTree
    from vitsearch_agent.queue.blob_store import BlobStore
    from vitsearch_agent.queue.job_queue import JobQueue
    from vitsearch_agent.server import canary_measurement, device, worker
    from vitsearch_agent.server.identity import DeviceIdentity
    from vitsearch_agent.wire.paired import Milliseconds

    tree, governors = DeviceTree(str(tmp_path / "tree")), iter(["powersave"])

    def measure(*_arguments):
        for governor in governors:
            tree.write("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", governor)
        times = Milliseconds(1.0, 0.9, 1.1)
        return canary_measurement.CanaryTimes(times, times, False)

    monkeypatch.setattr(canary_measurement, "measure", measure)
    queue = JobQueue(str(tmp_path / "jobs.sqlite"))
    board = device.Device(DeviceIdentity("device", "physical"), "1", system=System(tree.root))
    board.ready.set()
    measuring = worker.Worker(queue, BlobStore(str(tmp_path)), str(tmp_path / "work"), board, ReferenceStore())
    measuring._check_canary()
    assert not (tmp_path / "canary.json").exists()
    measuring._check_canary()
    assert (tmp_path / "canary.json").exists()
    queue.close()


def test_warm_parents_end_when_the_agent_is_idle(
    serve_agent, faulty_environment, tmp_path, blob, tiny_protocol, until, notes
):
    gate, note = tmp_path / "gate", notes / "pid"
    script = tmp_path / "impatient.py"
    script.write_text(
        "import sys\nfrom vitsearch_agent.server import worker\nfrom vitsearch_agent.cli import app\n"
        "worker._IDLE_S = 1.0  # 60 s otherwise\nsys.exit(app.main(sys.argv[1:]))\n"
    )
    served = serve_agent(config={"runtimes": {"faults": {"writable": [str(notes)]}}}, program=[str(script)])
    agents, options = {str(served.process.pid)}, {"fault": "second_waits", "gate": str(gate), "note": str(note)}
    twice = tiny_protocol._replace(processes=2, max_processes=2)
    with served.client() as client:
        result = in_thread(lambda: client.measure(blob, "faults", options, twice))
        until((notes / "pid.second").exists)
        assert warm_parents_of(agents), "the parent of the second process"
        gate.write_text("open")
        assert result().processes == 2
    until(lambda: not warm_parents_of(agents), "the end of the parents")
