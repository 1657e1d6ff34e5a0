"""The agent's systemd unit: system-wide under its own account, or of one user.

Older versions of systemd (JetPack 4 has 237) warn about lines that they do not know and ignore them.

A measuring child runs as the agent's user. Another user for it would need an agent that can change users (CAP_SETUID):
the process that answers the network would then be as good as root, to protect it from the one that does not. So
the child gives up its rights itself (`measure.child.isolation`), for which the unit leaves it two kinds of namespaces.
"""

import json
import os
from typing import NamedTuple, Tuple

from vitsearch_agent.base import single_file
from vitsearch_agent.base.canonical_json import parse_json
from vitsearch_agent.cli.service.options import DEFAULT, STATE, ServiceOptions
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.server.address import is_loopback, is_wildcard

UNIT = "vitsearch-agent.service"

_STORED = "Installed="

_UNIT = """\
# Written by `vitsearch-agent install`; run it again to change or upgrade the service. Add your own lines with
# `systemctl {user_flag}edit vitsearch-agent`, which keeps them in a separate file.
[Unit]
Description=vitsearch device agent
{after}# systemd gives up after 60 starts within 600 s, until the next boot.
StartLimitIntervalSec=600
StartLimitBurst=60

[Service]
{account}UMask=0077
# Not a home, whose files are not code: `python -m` looks for modules here.
WorkingDirectory=/
ExecStart={command}
# Restart after any exit, except 78: a person must fix the configuration, see the log.
Restart=always
RestartSec=5
RestartPreventExitStatus=78
# The agent stops its own children.
KillMode=mixed
TimeoutStopSec=20
# A measuring child makes itself a network without interfaces; only that needs namespaces.
RestrictNamespaces=user net
{hardening}# When a model runs out of memory, only its process is killed.
OOMPolicy=continue
# For limits.memory_mb of the configuration: the agent makes a cgroup for its measuring child.
Delegate=memory
# Since systemd 254; with older versions the agent moves to this subgroup itself.
DelegateSubgroup=vitsearch-agent

[Install]
WantedBy={target}

# Read by the next `install` and `uninstall`; systemd ignores it.
[X-vitsearch]
Installed={installed}
"""

# A Jetson's power mode is part of the environment; NoNewPrivileges prevents creating the device files of a card.
_AFTER = """\
After=network.target nvpmodel.service nvidia-persistenced.service
"""

_ONLINE = """\
# The agent listens on one address, which must exist when it starts.
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
RestrictSUIDSGID=yes
LockPersonality=yes
# Not hidden: devices (GPU, vcgencmd) and the kernel log, which records processes killed for memory. /sys stays
# writable for the cgroups.
"""

# The hardening that a user's manager can apply without privileges.
_PERSON = """\
NoNewPrivileges=yes
RestrictSUIDSGID=yes
LockPersonality=yes
"""


class Service(NamedTuple):
    """The command and options of a service, its state folder, and whether it is system-wide or of one user."""

    command: Tuple[str, ...]
    options: ServiceOptions
    state: str
    system_wide: bool


DEFAULT_SERVICE = Service(("/usr/bin/python3", f"/opt/vitsearch/{single_file.NAME}"), DEFAULT, STATE, True)


def text(service: Service) -> str:
    """Return the content of the unit's file."""
    host = service.options.host
    one_address = not (is_loopback(host) or is_wildcard(host))
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
    """Return the options in an installed unit; InvalidRequest when `install` did not write it."""
    for line in written.splitlines():
        if line.startswith(_STORED):
            try:
                return ServiceOptions.from_json(parse_json(line[len(_STORED) :].encode()), path)
            except ValueError:
                break
    raise InvalidRequest(
        f"{path} was not written by `vitsearch-agent install` and is not overwritten: move it away, and put your own "
        f"lines into {path}.d/local.conf"
    )


def command_word(word: str) -> str:
    """Return a word quoted for ExecStart, where $ starts a variable."""
    return quoted(word.replace("$", "$$"))


def quoted(word: str) -> str:
    """Return a word quoted for a setting: quotes, backslashes and % have a meaning there (systemd.syntax(7))."""
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
