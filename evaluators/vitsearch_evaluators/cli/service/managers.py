"""Which service manager a machine has."""

import functools

from vitsearch_evaluators.base.system import THIS_MACHINE, System, run_command
from vitsearch_evaluators.cli.service import launchd, systemd
from vitsearch_evaluators.cli.service.host import Host, Program
from vitsearch_evaluators.cli.service.manager import Manager
from vitsearch_evaluators.errors import InvalidRequest

_COMMAND_S = 90.0  # an agent that is stopped may take 20 s, a loaded board as long again


def current() -> Manager:
    """Return the manager of the machine that this is; see `find`."""
    system = THIS_MACHINE._replace(run=functools.partial(run_command, timeout_s=_COMMAND_S))
    return find(Host.current(), Program.current(), system)


def find(host: Host, program: Program, system: System) -> Manager:
    """Return the manager of this machine; InvalidRequest, which says what to do instead, where there is none."""
    if host.platform == "darwin":
        if host.is_root:
            raise InvalidRequest("on macOS the agent is installed without root, for the person who is logged in")
        return launchd.Launchd(host, program, system)
    if systemd.is_running(system):
        return (
            systemd.SystemService(host, program, system) if host.is_root else systemd.UserService(host, program, system)
        )
    started = " ".join(program.command(program.archive))
    raise InvalidRequest(
        "no systemd runs this system. Whatever starts programs here must start the agent, and again when it ends (not "
        f"after exit code 78): `{started} serve --port 8470 --state FOLDER`, in a container as its entry point with "
        "FOLDER on a volume. A phone is measured through adb, from the computer that it hangs on"
    )
