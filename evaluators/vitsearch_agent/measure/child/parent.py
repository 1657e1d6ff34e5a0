"""A warm parent: `python -m vitsearch_agent.measure.child.parent RUNTIME`, which forks the measuring children of a
runtime.

It has imported Python, this package and the library of the runtime, and has no model and no thread. For each request
on its standard input, a socket, it forks a child that runs one job as `child.main` does. The child belongs to the
agent: the process between the two ends at once, and the agent adopts its orphans. What a child inherits is what the
parent had when it was ready: a parent in which anything of it has changed ends, and the agent starts another one.

    agent  --- job file, the processors that it may use; log and pipe as descriptors --->  parent
    agent  <-- the child's pid ----------------------------------------------------------  parent
"""

import array
import contextlib
import json
import os
import socket
import struct
import sys
import time
from typing import Any, Dict, List, Sequence, Tuple

from vitsearch_agent.base import inherited, processes
from vitsearch_agent.measure.child import main as child
from vitsearch_agent.runtimes import create

REQUEST_MAX_BYTES = 64 << 10
READY = 0
"""Sent in the place of a pid when all is imported."""
HAS_THREADS, HAS_CHANGED = 3, 4
"""The exit codes of a parent whose runtime has started threads when it was imported, which do not survive a fork, and
of one whose limits, priorities, processors or signals have changed since it was ready."""
STARTING = ("load_ms", "first_inference_ms", "peak_memory_mb", "runtime_baseline_mb")
"""What a report says of the start of a process."""
_PID = struct.Struct("<i")
_ADOPTION_S = 5.0


def main(argv: Sequence[str]) -> int:
    name, parent_pid = argv[0], int(argv[1])
    if not processes.die_with_parent(parent_pid):
        return 1
    create(name).available()
    # Imported by what a child does first; each of them would import it again.
    from vitsearch_agent.runtimes import reference_models  # noqa: F401

    if processes.threads() > 1:
        return HAS_THREADS
    agent = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    agent.sendall(_PID.pack(READY))
    ready = inherited.read()
    while True:
        request, descriptors = receive(agent)
        if request is None:
            return 0
        if inherited.read() != ready:
            return HAS_CHANGED
        pid = _fork(agent, request, descriptors, parent_pid)
        for descriptor in descriptors:
            os.close(descriptor)
        agent.sendall(_PID.pack(pid))


def receive(agent: socket.socket) -> Tuple[Any, List[int]]:
    """Return the next request and its descriptors; None when the agent has closed its end."""
    descriptors = array.array("i")
    message, ancillary, _, _ = agent.recvmsg(REQUEST_MAX_BYTES, socket.CMSG_SPACE(2 * descriptors.itemsize))
    if not message:
        return None, []
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return json.loads(message.decode("ascii")), list(descriptors)


def without_start(report: Dict[str, Any]) -> Dict[str, Any]:
    """Return the report of a forked process: what its parent has loaded is missing in its memory and in its times."""
    return dict(report, **dict.fromkeys(STARTING))


def _fork(agent: socket.socket, request: Dict[str, Any], descriptors: List[int], agent_pid: int) -> int:
    """Return the pid of a new child, which the agent has adopted."""
    read, write = os.pipe()
    between = os.fork()
    if between == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            _become_child(agent, request, descriptors, agent_pid)
        _lead_group(pid)  # before the agent knows it: whoever ends this parent ends the group of this parent alone
        os.write(write, _PID.pack(pid))
        os._exit(0)
    os.close(write)
    os.waitpid(between, 0)  # from now on the child is the agent's
    try:
        return int(_PID.unpack(os.read(read, _PID.size))[0])
    finally:
        os.close(read)


def _lead_group(pid: int) -> None:
    """Give a process a group of its own. The process and the one that has forked it both do, as either may be first."""
    with contextlib.suppress(OSError):  # it has ended, or leads its group already
        os.setpgid(pid, pid)


def _become_child(agent: socket.socket, request: Dict[str, Any], descriptors: List[int], agent_pid: int) -> None:
    """Run the job of a request, and end; never returns."""
    code = 1
    try:
        agent.close()
        _lead_group(os.getpid())
        log, alive = descriptors
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (log, 1), (log, 2)):
            os.dup2(source, target)
        os.close(null)
        os.close(log)
        os.set_inheritable(alive, True)
        os.environ["TMPDIR"] = request["temporary"]
        os.sched_setaffinity(0, request["processors"])
        end = time.monotonic() + _ADOPTION_S
        while os.getppid() != agent_pid and time.monotonic() < end:
            time.sleep(0.0005)
        code = child.main([request["job"]], without_start)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:  # noqa: BLE001 - the boundary of the process
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
