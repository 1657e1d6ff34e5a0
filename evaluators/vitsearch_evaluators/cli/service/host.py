"""The machine and the program that is to be installed, as they are now."""

import os
import pwd
import sys
from typing import NamedTuple, Optional, Tuple

from vitsearch_evaluators.base.processes import package_folder

PYZ = "vitsearch-agent.pyz"
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")


class Program(NamedTuple):
    """With what the agent is started: `python` runs `archive` (the .pyz), or the package that is installed in it.

    `needs` are the folders and files without which it does not start.
    """

    python: str
    archive: Optional[str]
    needs: Tuple[str, ...]

    @classmethod
    def current(cls) -> "Program":
        package = package_folder()
        home = os.path.dirname(package)
        # A virtual environment is a link to a Python that may be anywhere.
        needs = (sys.executable, os.path.realpath(sys.executable), sys.prefix, sys.base_prefix)
        if os.path.isfile(home):
            return cls(sys.executable, home, needs)
        return cls(sys.executable, None, (*needs, package))

    def command(self, archive: Optional[str]) -> Tuple[str, ...]:
        """Return what starts the agent when the archive lies there."""
        return (self.python, "-m", "vitsearch_evaluators") if archive is None else (self.python, archive)

    def hidden(self) -> Optional[str]:
        """Return what of it a service of the whole machine would not find, for homes are closed to it."""
        return next((path for path in self.needs if is_hidden(path)), None)


class Host(NamedTuple):
    """Who installs, where. `platform` is `sys.platform`; `name` and `home` are the person's."""

    platform: str
    is_root: bool
    name: str
    home: str

    @classmethod
    def current(cls) -> "Host":
        number = os.geteuid()
        try:
            name = pwd.getpwuid(number).pw_name
        except KeyError:  # a container may run as a number that nobody has
            name = str(number)
        return cls(sys.platform, number == 0, name, os.path.expanduser("~"))


def is_hidden(path: str) -> bool:
    """Whether the unit's ProtectHome and PrivateTmp hide a path."""
    return any(path == folder or path.startswith(folder + "/") for folder in _HIDDEN)
