"""The file that makes the agent a unit of systemd: of the whole machine, under its own account, or of one person.

Older systemds (JetPack 4 has 237) warn of the lines that they do not know, and go on.
"""

import json
import os
from typing import NamedTuple, Tuple

from vitsearch_evaluators.agent.address import is_everywhere, is_loopback
from vitsearch_evaluators.base.canonical_json import parse_json
from vitsearch_evaluators.cli.service.host import PYZ
from vitsearch_evaluators.cli.service.options import DEFAULT, STATE, ServiceOptions
from vitsearch_evaluators.errors import InvalidRequest

UNIT = "vitsearch-agent.service"

_REMEMBERED = "Installed="

_UNIT = """\
# Written by `vitsearch-agent install`, which is also how to change and to upgrade it. Lines of your own:
# `systemctl {user_flag}edit vitsearch-agent`, which keeps them in a file beside this one.
[Unit]
Description=vitsearch device agent
{after}# Given up is what dies within five seconds of its start sixty times in a row. The next boot tries again.
StartLimitIntervalSec=600
StartLimitBurst=60

[Service]
{account}UMask=0077
ExecStart={command}
# However it ended, unless a person must see to it first: 78 is a wrong configuration, which the log tells.
Restart=always
RestartSec=5
RestartPreventExitStatus=78
# The agent ends what it measures by itself.
KillMode=mixed
TimeoutStopSec=20
{hardening}# A model that eats all memory must not take the board with it.
OOMPolicy=continue
# For limits.memory_mb of the configuration: the agent makes a cgroup for what it measures.
Delegate=memory
# Since systemd 254; before that the agent goes there itself.
DelegateSubgroup=vitsearch-agent

[Install]
WantedBy={target}

# What the next `install` and `uninstall` go by; systemd passes over it.
[X-vitsearch]
Installed={installed}
"""

# A Jetson's power mode is part of the environment; a card's device files are not made under NoNewPrivileges.
_AFTER = """\
After=network.target nvpmodel.service nvidia-persistenced.service
"""

_ONLINE = """\
# It listens on one address, which must be there.
Wants=network-online.target
After=network-online.target
"""

_MACHINE = """\
NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectKernelModules=yes
ProtectHostname=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
# Devices are not hidden (GPU, vcgencmd), nor the kernel's log, which tells of processes killed for memory, nor is
# /sys read-only, below which the cgroups are.
"""

# What a person's own manager may do without rights.
_PERSON = """\
NoNewPrivileges=yes
RestrictNamespaces=yes
RestrictSUIDSGID=yes
LockPersonality=yes
"""


class Service(NamedTuple):
    """What is started, and what `install` remembers. `system_wide`: not of one person."""

    command: Tuple[str, ...]
    options: ServiceOptions
    state: str
    system_wide: bool


DEFAULT_SERVICE = Service(("/usr/bin/python3", f"/opt/vitsearch/{PYZ}"), DEFAULT, STATE, True)


def text(service: Service) -> str:
    """Return the unit's file."""
    host = service.options.host
    one_address = not (is_loopback(host) or is_everywhere(host))
    return _UNIT.format(
        user_flag="" if service.system_wide else "--user ",
        after=_AFTER + (_ONLINE if one_address else "") if service.system_wide else "",
        account=_account(service) if service.system_wide else "",
        command=" ".join(map(command_word, (*service.command, *service.options.serve_arguments(service.state)))),
        hardening=_MACHINE if service.system_wide else _PERSON,
        target="multi-user.target" if service.system_wide else "default.target",
        installed=json.dumps(service.options.to_json(), sort_keys=True),
    )


def parse_options(written: str, path: str) -> ServiceOptions:
    """Return with what an installed unit was made; InvalidRequest when `install` did not make it."""
    for line in written.splitlines():
        if line.startswith(_REMEMBERED):
            try:
                return ServiceOptions.from_json(parse_json(line[len(_REMEMBERED) :].encode()), path)
            except ValueError:
                break
    raise InvalidRequest(
        f"{path} was not written by `vitsearch-agent install`, which leaves it alone: move it away first, and put "
        f"what you need of it into {path}.d/local.conf"
    )


def command_word(word: str) -> str:
    """Return one word of ExecStart, in which $ begins a variable."""
    return quoted(word.replace("$", "$$"))


def quoted(word: str) -> str:
    """Return one word of a setting: systemd reads quotes, backslashes and % in its own way (systemd.syntax(7))."""
    word = word.replace("%", "%%")
    if word and not any(letter in word for letter in " \t\"'\\;"):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _account(service: Service) -> str:
    lines = [f"User={service.options.user}"]
    if service.state == STATE:
        lines += [f"StateDirectory={os.path.basename(STATE)}", "StateDirectoryMode=0700"]
    else:
        lines.append(f"ReadWritePaths={quoted(service.state)}")
    return "\n".join(lines) + "\n"
