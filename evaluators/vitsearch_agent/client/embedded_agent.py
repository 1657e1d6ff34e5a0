"""An agent on this machine that ends together with the process that has started it.

The agent reads its stdin, which is a pipe from that process. When the process ends, even by SIGKILL, the pipe is
closed, and the agent and its children end. Several processes may share the agent of one state: the first one starts it,
and when that one ends, the next one that needs the agent starts it again.
"""

import contextlib
import functools
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from typing import Any, Iterator, Optional

from vitsearch_agent.base import locks, processes, python, tokens
from vitsearch_agent.base.system import user_cache_folder
from vitsearch_agent.client.client import DeviceClient
from vitsearch_agent.errors import AgentError, DeviceUnreachable, InvalidRequest

_START_S = 60.0
_STOP_S = 10.0
_STARTS = 3
_CONNECT_S = 5.0
_POLL_S = 0.02


class EmbeddedAgent:
    """An agent process; use it as a context manager. The folder `state` keeps the device's id and queue.

    Models are on this machine already, so their copies in `state` are deleted when the agent ends.

    `cpus` is a list as in `taskset -c` ("1", "0,2-3"); the agent and all that it measures run only there. Where another
    process runs an agent on this state already, that agent is used. Only `address` may be called from several threads
    at once.
    """

    def __init__(self, state: str, cpus: Optional[str] = None, python: str = sys.executable) -> None:
        self._state = os.path.abspath(state)
        self._cpus = cpus
        self._python = python
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._shared_pid = 0
        self._port = 0
        self.token = secrets.token_hex(32)

    def __enter__(self) -> "EmbeddedAgent":
        self._start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        if self._process is not None:
            return self._process.pid
        if not self._shared_pid:
            raise DeviceUnreachable("the embedded agent is not running")
        return self._shared_pid

    def has_pid(self, pid: int) -> bool:
        """Whether the agent runs, as the process `pid`."""
        process = self._process
        return pid == (self._shared_pid if process is None else process.pid)

    def address(self) -> str:
        """Return the URL, and restart the agent first if it has ended. For `DeviceClient(agent.address)`."""
        self.restart_if_dead()
        return self.url

    def client(self, owner: str, **settings: Any) -> DeviceClient:
        """Return a client that finds the agent also after a restart."""
        return DeviceClient(self.address, self.token, owner, **settings)

    def restart_if_dead(self) -> bool:
        """Start the agent again on its state if it has ended; return whether it had. Its queue continues."""
        if self._runs():
            return False
        self.stop()
        self._start()
        return True

    def stop(self) -> None:
        """End the agent: close its stdin, and send signals to its pid if that takes too long. The agent of another
        process goes on."""
        process, self._process, self._shared_pid = self._process, None, 0
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        for end in (process.terminate, process.kill):
            try:
                process.wait(_STOP_S)
                return
            except subprocess.TimeoutExpired:
                end()
        process.wait()

    def _start(self) -> None:
        os.makedirs(self._state, mode=0o700, exist_ok=True)
        with self._starting_alone():
            if not self._join():
                self._start_own()

    def _runs(self) -> bool:
        if self._process is not None:
            return self._process.poll() is None
        holder = locks.holder(self._path(locks.STATE))
        return holder is not None and holder.pid == self._shared_pid

    @contextlib.contextmanager
    def _starting_alone(self) -> Iterator[None]:
        end = time.monotonic() + _START_S
        while True:
            lock = locks.try_lock(self._path("starting"))
            if lock is not None or time.monotonic() > end:
                break
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            if lock is not None:
                lock.close()

    def _join(self) -> bool:
        """Use the agent that another process runs on this state; False if there is none.

        A killed agent may seem to run for a moment: a child that it was just starting has its lock and its socket.
        """
        holder = locks.holder(self._path(locks.STATE))
        if holder is None or processes.identify(holder.pid) is None:
            return False
        try:
            with open(self._path("port.json")) as stream:
                port = int(json.load(stream)["port"])
            socket.create_connection(("127.0.0.1", port), _CONNECT_S).close()
            self.token = tokens.read_tokens(self._path(tokens.FILE_NAME))[0]
        except (OSError, ValueError, InvalidRequest):
            return False  # it is about to end
        self._port, self._shared_pid = port, holder.pid
        return True

    def _start_own(self) -> None:
        """Start the agent, again if something kills it meanwhile. DeviceUnreachable quotes its log."""
        self._await_free_state()
        self._keep_token()
        for _ in range(_STARTS):
            process = self._process = self._spawn()
            self._port = self._await_port(process)
            if self._port:
                return
            code = process.poll()
            self.stop()
            if code is None or code >= 0:
                break  # too slow, or it exited: the next attempt would do the same
        log = self._path("agent.log")
        raise DeviceUnreachable(f"the embedded agent did not start; {log} ends with: {_tail(log)}")

    def _keep_token(self) -> None:
        """Use the token of the agent before: other processes that have joined it go on with that one."""
        path = self._path(tokens.FILE_NAME)
        try:
            self.token = tokens.read_tokens(path)[0]
        except InvalidRequest:
            tokens.write_tokens(path, (self.token,))

    def _await_free_state(self) -> None:
        """Return when no agent uses the state.

        The agent of a process that was killed needs a moment to end. AgentError if it does not.
        """
        end = time.monotonic() + _STOP_S
        while True:
            lock = locks.try_lock(self._path(locks.STATE))
            if lock is not None:
                lock.close()
                return
            if time.monotonic() > end:
                holder = locks.holder(self._path(locks.STATE))
                who = "" if holder is None else f" (pid {holder.pid} of {holder.user} on {holder.host})"
                raise AgentError("state_in_use", f"another agent{who} uses {self._state}")
            time.sleep(_POLL_S)

    def _spawn(self) -> "subprocess.Popen[bytes]":
        if os.path.exists(self._path("port.json")):
            os.remove(self._path("port.json"))
        command = python.run_module(self._python, "vitsearch_agent", "serve", "--exit-with-stdin")
        command += ["--state", self._state, "--port-file", self._path("port.json")]
        command += ["--token-file", self._path(tokens.FILE_NAME)]
        # Shared by all studies of this user on this machine: the longer it is known, the better.
        command += ["--references", os.path.join(user_cache_folder(), "references.json")]
        if self._cpus is not None:
            command += ["--cpus", self._cpus]
        with open(self._path("agent.log"), "ab", opener=functools.partial(os.open, mode=0o600)) as log:
            # A session of its own: Ctrl-C in a terminal reaches only this process, which then ends the agent in order.
            return subprocess.Popen(
                command,
                cwd=os.sep,  # the folder of a user may be on a disk that is to be taken away
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=processes.with_package_path(dict(os.environ)),
                start_new_session=True,
            )

    def _await_port(self, process: "subprocess.Popen[bytes]") -> int:
        """Return the port as soon as the agent listens, 0 if it ended or took too long."""
        end = time.monotonic() + _START_S
        while time.monotonic() < end and process.poll() is None:
            if os.path.exists(self._path("port.json")):
                with open(self._path("port.json")) as stream:
                    return int(json.load(stream)["port"])
            time.sleep(_POLL_S)
        return 0

    def _path(self, name: str) -> str:
        return os.path.join(self._state, name)


def _tail(path: str) -> str:
    try:
        with open(path, errors="replace") as stream:
            return stream.read()[-500:].strip() or "(nothing)"
    except OSError as error:
        return str(error)
