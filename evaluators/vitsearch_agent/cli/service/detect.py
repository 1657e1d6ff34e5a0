"""Find the service manager of a machine."""

import functools

from vitsearch_agent.base.system import THIS_MACHINE, System, run_command
from vitsearch_agent.cli.service import launchd, systemd
from vitsearch_agent.cli.service.host import Host, Program
from vitsearch_agent.cli.service.manager import Manager
from vitsearch_agent.errors import InvalidRequest

_COMMAND_S = 90.0  # stopping an agent may take 20 s, and longer on a loaded board


def current() -> Manager:
    """Return the service manager of this machine; see `find`."""
    system = THIS_MACHINE._replace(run=functools.partial(run_command, timeout_s=_COMMAND_S))
    return find(Host.current(), Program.current(), system)


def find(host: Host, program: Program, system: System) -> Manager:
    """Return the service manager; without one, InvalidRequest with the alternative in its message."""
    if host.platform == "darwin":
        if host.is_root:
            raise InvalidRequest("on macOS install the agent without root, as the user who is logged in")
        return launchd.Launchd(host, program, system)
    if systemd.is_running(system):
        return (
            systemd.SystemService(host, program, system) if host.is_root else systemd.UserService(host, program, system)
        )
    started = " ".join(program.command(program.archive))
    raise InvalidRequest(
        "this system does not run systemd. Let your init system start the agent, and restart it when it ends (except "
        f"with exit code 78): `{started} serve --port 8470 --state FOLDER`. In a container use this as the entry "
        "point, with FOLDER on a volume. To measure a phone, install the agent on the computer that runs adb"
    )
