"""The base of the service managers: the paths of the agent's files, and the steps that install them."""

import abc
import os
from typing import List, Optional, Sequence

from vitsearch_agent.base.system import System
from vitsearch_agent.cli.service.host import Host, Program
from vitsearch_agent.cli.service.options import PORT_FILE, ServiceOptions
from vitsearch_agent.cli.service.steps import Copy, Folder, Remove, RemoveEmpty, Step, Write
from vitsearch_agent.errors import InvalidRequest

NO_SESSION = "this needs a login session: log in by ssh or at the screen, not with su or sudo"

_IMPORT = "import os; os.chdir('/'); import vitsearch_agent"  # a service also starts in /


class Manager(abc.ABC):
    """A service manager; `definition` is the path of the service's file, `archive` that of the program, and `state` the
    default folder of its data."""

    definition: str
    archive: str
    state: str
    as_root = ""
    python_flags: Sequence[str] = ("-E",)

    def __init__(self, host: Host, program: Program, system: System) -> None:
        self.host = host
        self.program = program
        self.system = system

    def installed(self) -> Optional[ServiceOptions]:
        """Return the options of the installed service, None when it is not installed."""
        text = self.system.read(self.definition).text
        return None if text is None else self._parse_options(text)

    def install_steps(self, options: ServiceOptions) -> List[Step]:
        """Return the steps that install or upgrade the service and start it.

        Raises InvalidRequest when the service could not run with these options.
        """
        state = self.state_of(options)
        self._check(options, state)
        # A running program must not be replaced.
        steps = [] if self.installed() is None else self._stop()
        steps += self._prepare(options, state)
        archive = self._archive()
        if archive is not None and not self._is_running(archive):
            steps += [Folder(os.path.dirname(archive), 0o755, None), Copy(str(self.program.archive), archive)]
        steps.append(Write(self.definition, self._definition(options, state)))
        steps.append(Remove(os.path.join(state, PORT_FILE)))
        return steps + self._start()

    def uninstall_steps(self) -> List[Step]:
        """Return the steps that stop the service and remove its program."""
        steps: List[Step] = []
        if self.installed() is not None:
            steps += [self._disable(), Remove(self.definition), *self._reload()]
        if os.path.exists(self.system.at(self.archive)):
            steps += [Remove(self.archive), RemoveEmpty(os.path.dirname(self.archive))]
        return steps

    def state_of(self, options: ServiceOptions) -> str:
        """Return the state folder of a service with these options."""
        return options.state or self.state

    def command(self) -> Sequence[str]:
        """Return the command of the installed agent, without its arguments."""
        return self.program.command(self._archive())

    def account_steps(self, options: ServiceOptions) -> List[Step]:
        """Return the steps that remove the account that was created for the agent."""
        return []

    def has_failed(self) -> bool:
        """Return whether the agent ended and will not be started again."""
        return False

    def recent_log(self) -> str:
        """Return what the agent logged since its last start, as far as it can be read."""
        return ""

    def notes(self) -> List[str]:
        """Return what a person should know of this way to run an agent."""
        return []

    @property
    @abc.abstractmethod
    def log(self) -> str:
        """The command that shows the agent's log."""

    @abc.abstractmethod
    def _parse_options(self, text: str) -> ServiceOptions: ...

    @abc.abstractmethod
    def _definition(self, options: ServiceOptions, state: str) -> str: ...

    def _check(self, options: ServiceOptions, state: str) -> None:
        if self.program.archive is None:
            import_check = (self.program.python, *self.python_flags, "-c", _IMPORT)
            if self.system.run(import_check).reason is not None:
                raise InvalidRequest(
                    f"this package is not installed in {self.program.python}: install it there with pip, or use the "
                    "single file (make agent-pyz)"
                )
        try:
            inside = set(os.listdir(self.system.at(state)))
        except FileNotFoundError:
            return
        except OSError as error:
            raise InvalidRequest(f"--state {state}: {error.strerror}") from error
        if inside and not inside & {"lock", "config.json"}:
            raise InvalidRequest(f"--state {state} contains other files: use a folder that belongs to the agent alone")

    def _prepare(self, options: ServiceOptions, state: str) -> List[Step]:
        return [Folder(state, 0o700, None)]

    @abc.abstractmethod
    def _start(self) -> List[Step]: ...

    @abc.abstractmethod
    def _stop(self) -> List[Step]: ...

    @abc.abstractmethod
    def _disable(self) -> Step: ...

    def _reload(self) -> List[Step]:
        return []

    def _archive(self) -> Optional[str]:
        return None if self.program.archive is None else self.archive

    def _is_running(self, archive: str) -> bool:
        """Return whether this process runs the installed program."""
        return os.path.realpath(self.system.at(archive)) == os.path.realpath(str(self.program.archive))
