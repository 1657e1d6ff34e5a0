"""The service managers that can keep an agent running: where its files lie for each, and what it is told."""

import abc
import functools
import os
from typing import List, Optional, Sequence

from vitsearch_evaluators.errors import InvalidRequest
from vitsearch_evaluators.service import launchd, systemd
from vitsearch_evaluators.service.here import PYZ, Host, Program, is_hidden
from vitsearch_evaluators.service.steps import Command, Copy, Folder, Remove, RemoveEmpty, Step, Write
from vitsearch_evaluators.service.wanted import DEFAULT, PORT_FILE, STATE, USER, Wanted
from vitsearch_evaluators.system import THIS_MACHINE, System, run_command

_COMMAND_S = 90.0  # an agent that is stopped may take 20 s, a loaded board as long again
_IMPORT = "import os; os.chdir('/'); import vitsearch_evaluators"  # as a service does, which starts there
_NO_SESSION = "it needs a session of your own: log in by ssh or at the screen, not by su or sudo"


class Manager(abc.ABC):
    """`definition` is the file that makes the agent a service; `archive` and `state` are where its program and
    its data are put."""

    definition: str
    archive: str
    state: str
    as_root = ""
    python_flags: Sequence[str] = ("-E",)

    def __init__(self, host: Host, program: Program, system: System) -> None:
        self.host = host
        self.program = program
        self.system = system

    def installed(self) -> Optional[Wanted]:
        """Return with what the service was installed, None when it is not."""
        text = self.system.read(self.definition).text
        return None if text is None else self._remembered(text)

    def install_steps(self, wanted: Wanted) -> List[Step]:
        """Return what installs the service, or brings it up to date, and has it started now; InvalidRequest when
        it could not run here like that."""
        state = self.state_of(wanted)
        self._check(wanted, state)
        # A program is not replaced under those who run it.
        steps = [] if self.installed() is None else self._stop()
        steps += self._prepare(wanted, state)
        archive = self._archive()
        if archive is not None and not self._is_there(archive):
            steps += [Folder(os.path.dirname(archive), 0o755, None), Copy(str(self.program.archive), archive)]
        steps.append(Write(self.definition, self._definition(wanted, state)))
        steps.append(Remove(os.path.join(state, PORT_FILE)))
        return steps + self._start()

    def uninstall_steps(self) -> List[Step]:
        """Return what ends the service and takes its program away."""
        steps: List[Step] = []
        if self.installed() is not None:
            steps += [self._end(), Remove(self.definition), *self._forget()]
        if os.path.exists(self.system.at(self.archive)):
            steps += [Remove(self.archive), RemoveEmpty(os.path.dirname(self.archive))]
        return steps

    def state_of(self, wanted: Wanted) -> str:
        return wanted.state or self.state

    def command(self) -> Sequence[str]:
        """Return what starts the installed agent, without its arguments."""
        return self.program.command(self._archive())

    def account_steps(self, wanted: Wanted) -> List[Step]:
        """Return what takes away the account that was made for the agent."""
        return []

    def gave_up(self) -> bool:
        """Whether the agent ended and is not started again."""
        return False

    def last_words(self) -> str:
        """Return what the agent logged since its last start, as far as that can be told."""
        return ""

    def notes(self) -> List[str]:
        """Return what a person should know of this way to run an agent."""
        return []

    @property
    @abc.abstractmethod
    def log(self) -> str:
        """The command that shows what the agent logs."""

    @abc.abstractmethod
    def _remembered(self, text: str) -> Wanted: ...

    @abc.abstractmethod
    def _definition(self, wanted: Wanted, state: str) -> str: ...

    def _check(self, wanted: Wanted, state: str) -> None:
        if self.program.archive is None:
            looked = (self.program.python, *self.python_flags, "-c", _IMPORT)
            if self.system.run(looked).reason is not None:
                raise InvalidRequest(
                    f"this package is not installed in {self.program.python}: install it there with pip, or take the "
                    "single file (make agent-pyz)"
                )
        if os.path.isdir(self.system.at(state)):
            inside = set(os.listdir(self.system.at(state)))
            if inside and not inside & {"lock", "config.json"}:
                raise InvalidRequest(f"--state {state} holds other things: name a folder that is the agent's own")

    def _prepare(self, wanted: Wanted, state: str) -> List[Step]:
        return [Folder(state, 0o700, None)]

    @abc.abstractmethod
    def _start(self) -> List[Step]: ...

    @abc.abstractmethod
    def _stop(self) -> List[Step]: ...

    @abc.abstractmethod
    def _end(self) -> Step: ...

    def _forget(self) -> List[Step]:
        return []

    def _archive(self) -> Optional[str]:
        return None if self.program.archive is None else self.archive

    def _is_there(self, archive: str) -> bool:
        """Whether it is the installed program that runs just now."""
        return os.path.realpath(self.system.at(archive)) == os.path.realpath(str(self.program.archive))


class _Systemd(Manager):
    of_machine: bool
    flags: Sequence[str] = ()
    hint = ""

    @property
    def log(self) -> str:
        return f"journalctl {'-u' if self.of_machine else '--user-unit'} vitsearch-agent"

    def gave_up(self) -> bool:
        return self.system.run(self._systemctl("is-failed", systemd.UNIT).argv).reason is None

    def last_words(self) -> str:
        start = self.system.run(self._systemctl("show", "--property=InvocationID", systemd.UNIT).argv).stdout.strip()
        this_start = f"_SYSTEMD_INVOCATION_ID={start.partition('=')[2]}"
        return self.system.run(("journalctl", this_start, "-n", "20", "-o", "cat", "--no-pager")).stdout.strip()

    def _remembered(self, text: str) -> Wanted:
        return systemd.remembered(text, self.definition)

    def _definition(self, wanted: Wanted, state: str) -> str:
        return systemd.unit(systemd.Service(tuple(self.command()), wanted, state, self.of_machine))

    def _start(self) -> List[Step]:
        words = (["daemon-reload"], ["enable", systemd.UNIT], ["restart", systemd.UNIT])
        return [self._systemctl(*each) for each in words]

    def _stop(self) -> List[Step]:
        # What has failed too often does not start before that is forgotten.
        words = [["reset-failed"]] if self.gave_up() else []
        return [self._systemctl(*each, systemd.UNIT) for each in [["stop"], *words]]

    def _end(self) -> Step:
        return self._systemctl("disable", "--now", systemd.UNIT)

    def _forget(self) -> List[Step]:
        return [self._systemctl("daemon-reload")]

    def _groups_of(self, user: str) -> List[str]:
        """Return the groups that an account is in; none when there is no such account."""
        return self.system.run(("id", "-nG", user)).stdout.split()

    def _groups_missing(self, user: str) -> List[str]:
        """Return the useful groups that this machine has and that an account is not in."""
        there = [name for name in systemd.GROUPS if self.system.run(("getent", "group", name)).reason is None]
        return [name for name in there if name not in self._groups_of(user)]

    def _systemctl(self, *words: str) -> Command:
        return Command(("systemctl", *self.flags, *words), self.hint)


class OfMachine(_Systemd):
    """A unit of the whole machine: from boot on, under an account that may do nothing else."""

    definition = f"/etc/systemd/system/{systemd.UNIT}"
    archive = f"/opt/vitsearch/{PYZ}"
    state = STATE
    of_machine = True
    as_root = "sudo "
    python_flags = ("-E", "-s")

    def account_steps(self, wanted: Wanted) -> List[Step]:
        # Of another account nobody knows what else it is for.
        if wanted.user != USER or not self._groups_of(USER):
            return []
        return [Command(("userdel", USER), "")]

    def _check(self, wanted: Wanted, state: str) -> None:
        super()._check(wanted, state)
        hidden = self.program.hidden()
        if hidden is not None:
            raise InvalidRequest(
                f"the service does not see {hidden}, for homes and temporary folders are closed to it: use "
                "/usr/bin/python3 or an environment below /opt (or install without root, as a service of your own)"
            )
        for path in (state, wanted.token_file, wanted.tls_cert, wanted.tls_key):
            if path is not None and is_hidden(path):
                raise InvalidRequest(f"the service does not see {path}: homes and temporary folders are closed to it")

    def _prepare(self, wanted: Wanted, state: str) -> List[Step]:
        steps: List[Step] = []
        if not self._groups_of(wanted.user):
            made = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", state]
            steps.append(Command((*made, "--shell", "/usr/sbin/nologin", wanted.user), ""))
        missing = self._groups_missing(wanted.user)
        if missing:
            steps.append(Command(("usermod", "--append", "--groups", ",".join(missing), wanted.user), ""))
        if state != self.state:  # which systemd makes itself
            steps.append(Folder(state, 0o700, wanted.user))
        return steps


class OfPerson(_Systemd):
    """A unit of one person's own manager, with that person's rights."""

    of_machine = False
    flags = ("--user",)
    hint = _NO_SESSION

    def __init__(self, host: Host, program: Program, system: System) -> None:
        super().__init__(host, program, system)
        self.definition = f"{host.home}/.config/systemd/user/{systemd.UNIT}"
        self.archive = f"{host.home}/.local/share/vitsearch/{PYZ}"
        self.state = f"{host.home}/.local/state/vitsearch"

    def notes(self) -> List[str]:
        notes, name = [], self.host.name
        lingers = self.system.run(("loginctl", "show-user", name, "--property=Linger")).stdout.strip()
        if lingers != "Linger=yes":
            notes.append(
                "it starts when you log in and ends when you have logged out. To have it run from boot on: "
                f"sudo loginctl enable-linger {name}"
            )
        missing = self._groups_missing(name)
        if missing:
            notes.append(
                f"without the groups {', '.join(missing)} it may not see the GPU, nor a Raspberry Pi's power: "
                f"sudo usermod --append --groups {','.join(missing)} {name}, then log in again"
            )
        return notes

    def _check(self, wanted: Wanted, state: str) -> None:
        super()._check(wanted, state)
        if wanted.user != DEFAULT.user:
            raise InvalidRequest("--user is for root: without root the agent runs as you")


class Launchd(Manager):
    """A launch agent of macOS."""

    def __init__(self, host: Host, program: Program, system: System) -> None:
        super().__init__(host, program, system)
        self.definition = f"{host.home}/Library/LaunchAgents/{launchd.LABEL}.plist"
        self.archive = f"{host.home}/Library/Application Support/vitsearch/{PYZ}"
        self.state = f"{host.home}/Library/Application Support/vitsearch/state"

    @property
    def log(self) -> str:
        return f"tail '{self.state}/agent.log'"

    def notes(self) -> List[str]:
        return ["it starts when you log in"]

    def _remembered(self, text: str) -> Wanted:
        return launchd.remembered(text, self.definition)

    def _definition(self, wanted: Wanted, state: str) -> str:
        return launchd.property_list(self.command(), wanted, state)

    def _start(self) -> List[Step]:
        return [Command(("launchctl", "load", "-w", self.definition), _NO_SESSION)]

    def _stop(self) -> List[Step]:
        return [Command(("launchctl", "unload", self.definition), _NO_SESSION)]

    def _end(self) -> Step:
        return Command(("launchctl", "unload", "-w", self.definition), _NO_SESSION)


def here() -> Manager:
    """Return the manager of the machine that this is; see `find`."""
    system = THIS_MACHINE._replace(run=functools.partial(run_command, timeout_s=_COMMAND_S))
    return find(Host.here(), Program.here(), system)


def find(host: Host, program: Program, system: System) -> Manager:
    """Return the manager of this machine; InvalidRequest, which says what to do instead, where there is none."""
    if host.platform == "darwin":
        if host.is_root:
            raise InvalidRequest("on macOS the agent is installed without root, for the person who is logged in")
        return Launchd(host, program, system)
    if systemd.is_running(system):
        return OfMachine(host, program, system) if host.is_root else OfPerson(host, program, system)
    started = " ".join(program.command(program.archive))
    raise InvalidRequest(
        "no systemd runs this system. Whatever starts programs here must start the agent, and again when it ends (not "
        f"after exit code 78): `{started} serve --port 8470 --state FOLDER`, in a container as its entry point with "
        "FOLDER on a volume. A phone is measured through adb, from the computer that it hangs on"
    )
