"""The filter of system calls, run by an interpreter of its instructions: what it lets pass on each processor."""

import errno
import os
from collections import namedtuple

import pytest

from vitsearch_agent.base import seccomp

OWN, OTHER, LATER = 700, 600, 800
ALLOWED, KILLED = "allowed", "killed"
UNKNOWN_ARCHITECTURE = 0x40000003  # that of i386
OPERATIONS = {0x15: lambda a, k: a == k, 0x35: lambda a, k: a >= k, 0x45: lambda a, k: a & k != 0}

Call = namedtuple("Call", "number arguments architecture")


def judged(steps, call):
    """What the kernel does with a call: as linux/Documentation/networking/filter.rst describes the instructions."""
    data = {0: call.number, 4: call.architecture}
    data.update({16 + 8 * index: value & 0xFFFFFFFF for index, value in enumerate(call.arguments)})
    accumulator, at = 0, 0
    while True:
        step = steps[at]
        at += 1
        if step.code == 0x20:
            accumulator = data[step.value]
        elif step.code == 0x05:
            at += step.value
        elif step.code == 0x06:
            action, value = step.value & 0xFFFF0000, step.value & 0xFFFF
            return {0x7FFF0000: ALLOWED, 0x80000000: KILLED}.get(action, errno.errorcode.get(value))
        else:
            at += step.if_true if OPERATIONS[step.code](accumulator, step.value) else step.if_false


@pytest.fixture(params=["x86_64", "aarch64"])
def processor(request):
    return seccomp._PROCESSORS[request.param]


@pytest.fixture
def decide(processor):
    """decide(name or number, *arguments, signals=True) -> what happens to the call."""
    numbers = {
        name: number
        for table in (*seccomp._REFUSED.values(), seccomp._JUDGED)
        for name, number in seccomp._numbers(table, processor).items()
    }

    def decide(call, *arguments, signals=True, architecture=processor.audit):
        steps = seccomp.program(processor, OWN, signals)
        number = numbers[call] if isinstance(call, str) else call
        return judged(steps, Call(number, (*arguments, 0, 0, 0, 0, 0, 0)[:6], architecture))

    decide.numbers = numbers
    return decide


def test_exactly_the_listed_calls_are_refused_whatever_their_arguments(decide, processor):
    refused = {
        number: errno.errorcode[code]
        for code, table in seccomp._REFUSED.items()
        for number in seccomp._numbers(table, processor).values()
    }
    judged_numbers = set(seccomp._numbers(seccomp._JUDGED, processor).values())
    for number in set(range(600)) - judged_numbers:
        assert decide(number) == refused.get(number, ALLOWED), number


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("prlimit64", ["pid"]),
        ("setpriority", [0, "pid"]),
        ("ioprio_set", [1, "pid"]),
        ("sched_setscheduler", ["pid"]),
        ("sched_setparam", ["pid"]),
        ("sched_setattr", ["pid"]),
        ("sched_setaffinity", ["pid"]),
        ("migrate_pages", ["pid"]),
        ("move_pages", ["pid"]),
        ("perf_event_open", [0, "pid", -1]),
    ],
)
def test_a_process_may_change_itself_and_no_other(decide, name, arguments):
    def of(pid):
        return decide(name, *[pid if argument == "pid" else argument for argument in arguments])

    assert [of(pid) for pid in (0, OWN, OTHER, 1)] == [ALLOWED, ALLOWED, "EPERM", "EPERM"]
    assert of(LATER) == (ALLOWED if name == "sched_setaffinity" else "EPERM")


def test_the_priorities_of_a_group_or_a_user_are_refused(decide):
    assert [decide("setpriority", which, 0) for which in (1, 2)] == ["EPERM"] * 2
    assert [decide("ioprio_set", which, 0) for which in (2, 3)] == ["EPERM"] * 2


def test_counters_of_all_processes_are_refused(decide):
    assert decide("perf_event_open", 0, -1, 0) == decide("perf_event_open", 0, 0, 1) == "EPERM"


def test_signals_reach_this_process_and_its_group_only_where_landlock_does_not_see_to_it(decide):
    reached = [decide("kill", pid) for pid in (OWN, 0, -OWN)] + [decide("tgkill", OWN), decide("tkill", OWN)]
    assert reached == [ALLOWED] * 5
    others = [("kill", OTHER), ("kill", LATER), ("kill", -1), ("kill", -OTHER), ("tgkill", OTHER), ("tkill", OTHER)]
    others += [("rt_sigqueueinfo", OTHER), ("rt_tgsigqueueinfo", OTHER), ("pidfd_send_signal", 3)]
    assert {decide(*call) for call in others} == {"EPERM"}
    assert {decide(*call, signals=False) for call in others} == {ALLOWED}


def test_descriptors_send_no_signals_and_change_no_attributes(decide):
    assert [decide("fcntl", 3, command) for command in (8, 15)] == ["EPERM"] * 2
    assert [decide("fcntl", 3, command) for command in (1, 2, 3, 4, 9)] == [ALLOWED] * 5
    assert [decide("ioctl", 3, request) for request in (0x8901, 0x8902, 0x40086602, 0x401C5820)] == ["EPERM"] * 4
    assert [decide("ioctl", 3, request) for request in (0x5401, 0xC020462A)] == [ALLOWED] * 2


def test_threads_and_processes_start_but_not_in_namespaces(decide):
    thread, process = 0x3D0F00, 0x1200011
    assert [decide("clone", flags) for flags in (thread, process)] == [ALLOWED] * 2
    assert [decide("clone", flags | 17) for flags in (0x10000000, 0x20000000, 0x00020000)] == ["EPERM"] * 3
    assert decide("clone3") == "ENOSYS"
    assert decide("personality", 0xFFFFFFFF) == decide("personality", 0) == ALLOWED
    assert decide("personality", 0x0040000) == "EPERM"


def test_calls_of_another_architecture_end_the_process(decide):
    assert decide(1, architecture=UNKNOWN_ARCHITECTURE) == KILLED
    assert decide(1 | 0x40000000) == "ENOSYS"


def test_an_unknown_processor_has_a_reason(monkeypatch):
    monkeypatch.setattr(os, "uname", lambda: namedtuple("uname", "machine")("riscv64"))
    with pytest.raises(OSError, match="not known for riscv64, 64 bits"):
        seccomp.refuse_calls(signals=True)


@pytest.mark.parametrize(("refusal", "is_tried_again"), [(errno.EINVAL, True), (errno.ENOSYS, False)])
def test_a_kernel_that_does_not_know_the_flag_gets_the_filter_without_it(monkeypatch, refusal, is_tried_again):
    flags = []

    def call(_number, _operation, flag, _filter):
        flags.append(flag)
        if flag:
            raise OSError(refusal, os.strerror(refusal))
        return 0

    monkeypatch.setattr(os, "uname", lambda: namedtuple("uname", "machine")("aarch64"))
    monkeypatch.setattr(seccomp, "system_call", call)
    if is_tried_again:
        seccomp.refuse_calls(signals=True)
    else:
        with pytest.raises(OSError):
            seccomp.refuse_calls(signals=True)
    assert flags == [4, 0][: 1 + is_tried_again]
