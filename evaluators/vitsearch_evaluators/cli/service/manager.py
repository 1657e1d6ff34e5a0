"""What every service manager has in common: where the agent's files lie, and the steps that put them there."""

import abc
import os
from typing import List, Optional, Sequence

from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.cli.service.host import Host, Program
from vitsearch_evaluators.cli.service.options import PORT_FILE, ServiceOptions
from vitsearch_evaluators.cli.service.steps import Copy, Folder, Remove, RemoveEmpty, Step, Write
from vitsearch_evaluators.errors import InvalidRequest

NO_SESSION = "it needs a session of your own: log in by ssh or at the screen, not by su or sudo"

_IMPORT = "import os; os.chdir('/'); import vitsearch_evaluators"  # as a service does, which starts there


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

    def installed(self) -> Optional[ServiceOptions]:
        """Return with what the service was installed, None when it is not."""
        text = self.system.read(self.definition).text
        return None if text is None else self._parse_options(text)

    def install_steps(self, options: ServiceOptions) -> List[Step]:
        """Return what installs the service, or brings it up to date, and has it started now; InvalidRequest when
        it could not run here like that."""
        state = self.state_of(options)
        self._check(options, state)
        # A program is not replaced under those who run it.
        steps = [] if self.installed() is None else self._stop()
        steps += self._prepare(options, state)
        archive = self._archive()
        if archive is not None and not self._is_there(archive):
            steps += [Folder(os.path.dirname(archive), 0o755, None), Copy(str(self.program.archive), archive)]
        steps.append(Write(self.definition, self._definition(options, state)))
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

    def state_of(self, options: ServiceOptions) -> str:
        return options.state or self.state

    def command(self) -> Sequence[str]:
        """Return what starts the installed agent, without its arguments."""
        return self.program.command(self._archive())

    def account_steps(self, options: ServiceOptions) -> List[Step]:
        """Return what takes away the account that was made for the agent."""
        return []

    def has_failed(self) -> bool:
        """Whether the agent ended and is not started again."""
        return False

    def recent_log(self) -> str:
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
    def _parse_options(self, text: str) -> ServiceOptions: ...

    @abc.abstractmethod
    def _definition(self, options: ServiceOptions, state: str) -> str: ...

    def _check(self, options: ServiceOptions, state: str) -> None:
        if self.program.archive is None:
            looked = (self.program.python, *self.python_flags, "-c", _IMPORT)
            if self.system.run(looked).reason is not None:
                raise InvalidRequest(
                    f"this package is not installed in {self.program.python}: install it there with pip, or take the "
                    "single file (make agent-pyz)"
                )
        try:
            inside = set(os.listdir(self.system.at(state)))
        except FileNotFoundError:
            return
        except OSError as error:
            raise InvalidRequest(f"--state {state}: {error.strerror}") from error
        if inside and not inside & {"lock", "config.json"}:
            raise InvalidRequest(f"--state {state} holds other things: name a folder that is the agent's own")

    def _prepare(self, options: ServiceOptions, state: str) -> List[Step]:
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
