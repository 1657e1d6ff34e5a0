"""The agent under systemd: as a service of the whole machine, or of one user."""

import os
from typing import List, Sequence

from vitsearch_agent.base import single_file
from vitsearch_agent.base.system import System
from vitsearch_agent.cli.service import systemd_unit
from vitsearch_agent.cli.service.host import Host, Program, is_hidden
from vitsearch_agent.cli.service.manager import NO_SESSION, Manager
from vitsearch_agent.cli.service.options import DEFAULT, STATE, USER, ServiceOptions
from vitsearch_agent.cli.service.steps import Command, Folder, Step
from vitsearch_agent.errors import InvalidRequest

GROUPS = ("video", "render")
"""The groups for the GPU and a Raspberry Pi's firmware. Not `i2c`: the current monitors are read as files, and that
group could change the board's voltages."""

_RUNNING = "/run/systemd/system"


def is_running(system: System) -> bool:
    """Return whether systemd runs this machine (sd_booted(3))."""
    return os.path.isdir(system.at(_RUNNING))


class _Systemd(Manager):
    system_wide: bool
    flags: Sequence[str] = ()
    hint = ""

    @property
    def log(self) -> str:
        return f"journalctl {'-u' if self.system_wide else '--user-unit'} vitsearch-agent"

    def has_failed(self) -> bool:
        return self.system.run(self._systemctl("is-failed", systemd_unit.UNIT).argv).reason is None

    def recent_log(self) -> str:
        start = self.system.run(
            self._systemctl("show", "--property=InvocationID", systemd_unit.UNIT).argv
        ).stdout.strip()
        this_start = f"_SYSTEMD_INVOCATION_ID={start.partition('=')[2]}"
        return self.system.run(("journalctl", this_start, "-n", "20", "-o", "cat", "--no-pager")).stdout.strip()

    def _parse_options(self, text: str) -> ServiceOptions:
        return systemd_unit.parse_options(text, self.definition)

    def _definition(self, options: ServiceOptions, state: str) -> str:
        return systemd_unit.text(systemd_unit.Service(tuple(self.command()), options, state, self.system_wide))

    def _start(self) -> List[Step]:
        words = (["daemon-reload"], ["enable", systemd_unit.UNIT], ["restart", systemd_unit.UNIT])
        return [self._systemctl(*each) for each in words]

    def _stop(self) -> List[Step]:
        # A unit that has failed too often does not start until its failures are reset.
        words = [["reset-failed"]] if self.has_failed() else []
        return [self._systemctl(*each, systemd_unit.UNIT) for each in [["stop"], *words]]

    def _disable(self) -> Step:
        return self._systemctl("disable", "--now", systemd_unit.UNIT)

    def _reload(self) -> List[Step]:
        return [self._systemctl("daemon-reload")]

    def _groups_of(self, user: str) -> List[str]:
        """Return the groups of an account; none when the account does not exist."""
        return self.system.run(("id", "-nG", user)).stdout.split()

    def _groups_missing(self, user: str) -> List[str]:
        """Return the GROUPS that exist on this machine and that an account is not in."""
        existing = [name for name in GROUPS if self.system.run(("getent", "group", name)).reason is None]
        return [name for name in existing if name not in self._groups_of(user)]

    def _systemctl(self, *words: str) -> Command:
        return Command(("systemctl", *self.flags, *words), self.hint)


class SystemService(_Systemd):
    """A system-wide unit: it starts at boot, under its own unprivileged account."""

    definition = f"/etc/systemd/system/{systemd_unit.UNIT}"
    archive = f"/opt/vitsearch/{single_file.NAME}"
    state = STATE
    system_wide = True
    as_root = "sudo "
    python_flags = ("-E", "-s")

    def account_steps(self, options: ServiceOptions) -> List[Step]:
        # Another account may have other uses.
        if options.user != USER or not self._groups_of(USER):
            return []
        return [Command(("userdel", USER), "")]

    def _check(self, options: ServiceOptions, state: str) -> None:
        super()._check(options, state)
        hidden = self.program.hidden()
        if hidden is not None:
            raise InvalidRequest(
                f"the service has no access to {hidden}, because homes and temporary folders are hidden from it: use "
                "/usr/bin/python3 or an environment in /opt (or install without root, as a user service)"
            )
        for path in (state, options.token_file, options.tls_cert, options.tls_key):
            if path is not None and is_hidden(path):
                raise InvalidRequest(
                    f"the service has no access to {path}: homes and temporary folders are hidden from it"
                )

    def _prepare(self, options: ServiceOptions, state: str) -> List[Step]:
        steps: List[Step] = []
        if not self._groups_of(options.user):
            create = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", state]
            steps.append(Command((*create, "--shell", "/usr/sbin/nologin", options.user), ""))
        missing = self._groups_missing(options.user)
        if missing:
            steps.append(Command(("usermod", "--append", "--groups", ",".join(missing), options.user), ""))
        if state != self.state:  # systemd creates the default folder
            steps.append(Folder(state, 0o700, options.user))
        return steps


class UserService(_Systemd):
    """A unit of one user's manager, with that user's rights."""

    system_wide = False
    flags = ("--user",)
    hint = NO_SESSION

    def __init__(self, host: Host, program: Program, system: System) -> None:
        super().__init__(host, program, system)
        self.definition = f"{host.home}/.config/systemd/user/{systemd_unit.UNIT}"
        self.archive = f"{host.home}/.local/share/vitsearch/{single_file.NAME}"
        self.state = f"{host.home}/.local/state/vitsearch"

    def notes(self) -> List[str]:
        notes, name = [], self.host.name
        lingers = self.system.run(("loginctl", "show-user", name, "--property=Linger")).stdout.strip()
        if lingers != "Linger=yes":
            notes.append(
                "the agent starts when you log in and stops when you log out. To run it from boot on: "
                f"sudo loginctl enable-linger {name}"
            )
        missing = self._groups_missing(name)
        if missing:
            notes.append(
                f"without the groups {', '.join(missing)} the agent may lack access to the GPU or to vcgencmd: "
                f"sudo usermod --append --groups {','.join(missing)} {name}, then log in again"
            )
        return notes

    def _check(self, options: ServiceOptions, state: str) -> None:
        super()._check(options, state)
        if options.user != DEFAULT.user:
            raise InvalidRequest("--user needs root: without root the agent runs as you")
