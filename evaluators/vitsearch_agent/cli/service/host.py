"""The machine, and the program that `install` installs on it."""

import os
import pwd
import sys
from typing import NamedTuple, Optional, Tuple

from vitsearch_agent.base.processes import package_folder

_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")


class Program(NamedTuple):
    """The program of the agent: `python` runs `archive` (the .pyz), or the package installed in it.

    `needs` are the files and folders without which it does not start.
    """

    python: str
    archive: Optional[str]
    needs: Tuple[str, ...]

    @classmethod
    def current(cls) -> "Program":
        """Return the program that runs now."""
        package = package_folder()
        home = os.path.dirname(package)
        # A virtual environment links to a Python elsewhere.
        needs = (sys.executable, os.path.realpath(sys.executable), sys.prefix, sys.base_prefix)
        if os.path.isfile(home):
            return cls(sys.executable, home, needs)
        return cls(sys.executable, None, (*needs, package))

    def command(self, archive: Optional[str]) -> Tuple[str, ...]:
        """Return the command that starts the agent, with the archive at this path."""
        return (self.python, "-m", "vitsearch_agent") if archive is None else (self.python, archive)

    def hidden(self) -> Optional[str]:
        """Return a needed path that is hidden from a system-wide service, None when there is none."""
        return next((path for path in self.needs if is_hidden(path)), None)


class Host(NamedTuple):
    """The platform (`sys.platform`), and the user who installs: name, home and whether it is root."""

    platform: str
    is_root: bool
    name: str
    home: str

    @classmethod
    def current(cls) -> "Host":
        """Return the platform and user of this process."""
        number = os.geteuid()
        try:
            name = pwd.getpwuid(number).pw_name
        except KeyError:  # a container may run under a user id without a name
            name = str(number)
        return cls(sys.platform, number == 0, name, os.path.expanduser("~"))


def is_hidden(path: str) -> bool:
    """Return whether the unit's ProtectHome and PrivateTmp hide a path."""
    return any(path == folder or path.startswith(folder + "/") for folder in _HIDDEN)
