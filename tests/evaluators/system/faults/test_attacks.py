"""Models that run code of their own, in turn on warm parents: none decides another's result."""

import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

from support import AGENT_HOME, SUPPORT
from support.attacks import ATTACKS
from support.warm_parents import warm_parents_of
from vitsearch_agent.errors import MeasurementFailed
from vitsearch_agent.wire.distribution import median

AGENT_USER, ANOTHER_USER = 65534, 65533
SEED = 46
ATTEMPTS = 3
"""Measurements of a sound model until one is as usual: what an attack has changed is so every time."""


def reached_by(client, blob, protocol, agent, state, attacks, repeat=0):
    """What a model reached in the second process of its measurement, which is forked."""
    wanted = {"agent": agent, "state": state, "token": os.path.join(state, "token"), "attacks": attacks}
    two = protocol._replace(processes=2, max_processes=2)
    with pytest.raises(MeasurementFailed) as caught:
        client.measure(blob, "faults", {"fault": "attack", "gate": json.dumps(wanted)}, two, repeat)
    assert "reached: " in str(caught.value), (caught.value, caught.value.details)
    return str(caught.value).partition("reached: ")[2].split()


@pytest.fixture
def need_restrictions():
    """need_restrictions(client): skip the test where the kernel lacks something."""

    def need(client):
        for restriction in client.device().restrictions:
            if not restriction.holds and restriction.name != "user":
                pytest.skip(f"{restriction.name}: {restriction.detail}")

    return need


def test_no_attack_reaches_anything(faulty_agent, faulty_client, blob, tiny_protocol, tmp_path, need_restrictions):
    need_restrictions(faulty_client)
    before = passed_on(faulty_agent.pid)
    arguments = (blob, tiny_protocol, faulty_agent.pid, str(tmp_path / "state"), sorted(ATTACKS))
    assert reached_by(faulty_client, *arguments) == []
    assert passed_on(faulty_agent.pid) == before
    assert faulty_client.measure(blob, "noop", {"busy_us": 10}, tiny_protocol).latency_ms.n == 11


def passed_on(pid):
    """What can be changed of a process and its threads, as the kernel shows it."""
    seen = {"limits": text(f"/proc/{pid}/limits"), "oom": text(f"/proc/{pid}/oom_score_adj")}
    for task in os.listdir(f"/proc/{pid}/task"):
        fields = text(f"/proc/{pid}/task/{task}/stat").rpartition(")")[2].split()
        # nice, priority for real time, policy
        seen.setdefault("threads", set()).add(
            (fields[16], fields[37], fields[38], tuple(os.sched_getaffinity(int(task))))
        )
    return seen


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can restore a priority")
def test_what_changes_the_agent_changes_no_measurement(faulty_agent, faulty_client, blob, tiny_protocol):
    """As a model could on a kernel without seccomp."""
    import resource

    state = inherited_by(faulty_client, blob, tiny_protocol)
    assert sound_ms(faulty_client, blob, tiny_protocol, state, 0) >= 0
    before = passed_on(faulty_agent.pid)
    for pid in [faulty_agent.pid, *warm_parents_of({str(faulty_agent.pid)})]:
        hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (100, hard))
        for task in map(int, os.listdir(f"/proc/{pid}/task")):
            os.setpriority(os.PRIO_PROCESS, task, 7)
            os.sched_setscheduler(task, os.SCHED_IDLE, os.sched_param(0))
            os.sched_setaffinity(task, {min(os.sched_getaffinity(0))})
    assert sound_ms(faulty_client, blob, tiny_protocol, state, 1) >= 0
    assert passed_on(faulty_agent.pid)["limits"] == before["limits"]


def text(path):
    with contextlib.suppress(OSError), open(path) as stream:
        return stream.read()
    return ""


def a_python_of_all():
    """Return a Python that every user can start; skip the test without one."""
    for python in (sys.executable, "/usr/bin/python3"):
        command = [python, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import vitsearch_agent", AGENT_HOME]
        with contextlib.suppress(OSError):
            if subprocess.call(command, cwd="/", preexec_fn=become(AGENT_USER), stderr=subprocess.DEVNULL) == 0:
                return python
    return pytest.skip("no Python here can be started by every user")


def become(user):
    def change():
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)

    return change


LAUNCHER = """
import os, sys
os.setgroups([]), os.setgid({user}), os.setuid({user})
os.environ["HOME"] = {home!r}
os.execv({python!r}, [{python!r}, "-m", "vitsearch_agent", *sys.argv[1:]])
"""


@pytest.fixture
def agent_of_nobody(serve_agent, monkeypatch):
    """An agent of an unprivileged user with the `faults` runtime, in a folder that this user can reach."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    python = a_python_of_all()
    folder = tempfile.mkdtemp(prefix="vitsearch-test-")
    os.chmod(folder, 0o755)
    site = os.path.join(folder, "site")
    os.makedirs(os.path.join(site, "vitsearch_faults-1.dist-info"))
    for name in ("faults_runtime.py", "attacks.py"):
        shutil.copy(os.path.join(SUPPORT, name), site)
    write(os.path.join(site, "vitsearch_faults-1.dist-info", "METADATA"), "Name: vitsearch-faults\nVersion: 1\n")
    entry = "[vitsearch_agent.runtimes]\nfaults = faults_runtime:FaultRuntime\n"
    write(os.path.join(site, "vitsearch_faults-1.dist-info", "entry_points.txt"), entry)
    own = os.path.join(folder, "own")
    os.mkdir(own)
    os.chown(own, AGENT_USER, AGENT_USER)
    write(os.path.join(folder, "launcher.py"), LAUNCHER.format(user=AGENT_USER, home=own, python=python))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([site, AGENT_HOME]))
    yield serve_agent(program=[os.path.join(folder, "launcher.py")], state=os.path.join(own, "state"))
    shutil.rmtree(folder)


def write(path, content):
    with open(path, "w") as stream:
        stream.write(content)


def readable_for(user, paths):
    """The paths that another user can read or list."""
    script = "import os, sys\nfor path in sys.argv[1:]:\n    if os.access(path, os.R_OK): print(path)"
    command = [sys.executable if os.geteuid() else "/usr/bin/python3", "-c", script, *paths]
    done = subprocess.run(command, cwd="/", preexec_fn=become(user), stdout=subprocess.PIPE, check=True)
    return done.stdout.decode().split()


@pytest.mark.long
@pytest.mark.parametrize("rounds", [1, 19])
def test_after_each_attack_of_an_unprivileged_user_a_sound_model_measures(
    agent_of_nobody, blob, tiny_protocol, need_restrictions, rounds
):
    served, order = agent_of_nobody, random.Random(SEED)
    agent, attacks = served.process.pid, sorted(ATTACKS)
    with served.client(owner="study") as client:
        need_restrictions(client)
        before = passed_on(agent)
        state = inherited_by(client, blob, tiny_protocol)
        usual = sound_interval(client, blob, tiny_protocol, state, 0)
        for turn in range(1, rounds * len(attacks) + 1):
            attack = order.choice(attacks) if turn > len(attacks) else attacks[turn - 1]
            assert reached_by(client, blob, tiny_protocol, agent, served.state, [attack], turn) == [], attack
            assert passed_on(agent) == before, attack
            parents = warm_parents_of({str(agent)})
            assert {json.dumps(passed_on(pid)["limits"]) for pid in parents} <= {json.dumps(before["limits"])}, attack
            repeats = range(ATTEMPTS * turn, ATTEMPTS * (turn + 1))
            again = (sound_interval(client, blob, tiny_protocol, state, repeat) for repeat in repeats)
            assert any(low <= usual[1] and usual[0] <= high for low, high in again), attack
    assert warm_parents_of({str(agent)}), "no attack met a warm parent"
    secrets = [served.token_file, served.state, os.path.join(served.state, "jobs.sqlite")]
    assert readable_for(AGENT_USER, secrets) == secrets
    assert readable_for(ANOTHER_USER, secrets) == []


def inherited_by(client, blob, protocol):
    """What the process of a model gets from the agent."""
    with pytest.raises(MeasurementFailed) as caught:
        client.measure(blob, "faults", {"fault": "steady"}, protocol)
    return str(caught.value).partition("inherited: ")[2]


def sound_ms(client, blob, protocol, state, turn):
    """The CPU time of a model that always does the same; its started and its forked process have inherited `state`."""
    return sound_times(client, blob, protocol, state, turn).p50


def sound_times(client, blob, protocol, state, turn):
    two = protocol._replace(processes=2, max_processes=2)
    return client.measure(blob, "faults", {"fault": "steady", "gate": state}, two, turn).cpu_ms


def sound_interval(client, blob, protocol, state, turn):
    """The 95 % interval of the CPU time of that model, relative to that of the same work in this process, which no
    attack concerns: the processor may be faster or slower by now."""
    own = own_times()
    times = sound_times(client, blob, protocol, state, turn)
    own = median(own + own_times())
    return times.ci95_low / own, times.ci95_high / own


def own_times():
    """CPU milliseconds of runs of the work of a sound model (`faults_runtime`) in this process."""
    times = []
    for _ in range(11):
        started = time.process_time()
        sum(range(20_000))
        times.append((time.process_time() - started) * 1000)
    return times
