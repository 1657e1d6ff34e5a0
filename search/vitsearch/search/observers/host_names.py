"""Which names of this machine a request may use for it.

A page of another site can make a browser send requests here, under a name of that site that it lets stand for our
address ("DNS rebinding"). Such a request has the foreign name in its header `Host`.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from vitsearch_agent.server.address import is_loopback

MISDIRECTED = "this server is not called {host!r}: use the address that it has printed"
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:[0-9]{1,5})?")


@dataclass(frozen=True)
class HostNames:
    """The names of a server. `any_number`: also every IP address, which no other site can have as its name."""

    names: frozenset[str]
    any_number: bool = False

    @classmethod
    def of(cls, bound: str) -> HostNames:
        """Those of a server that listens on the host `bound`: that host, those of loopback, and for one that others
        reach the names that this machine has for itself."""
        names = {bound.lower(), "localhost", "127.0.0.1", "::1"}
        if is_loopback(bound):
            return cls(frozenset(names))
        own = {socket.gethostname().lower(), socket.getfqdn().lower()}
        return cls(frozenset(names | own), any_number=True)

    def __contains__(self, header: object) -> bool:
        """Whether a header `Host` names the server, with any port: a tunnel has another one."""
        match = _HOST.fullmatch(header) if isinstance(header, str) else None
        if match is None:
            return False
        host = match[1].strip("[]").rstrip(".").lower()
        return host in self.names or (self.any_number and _is_number(host))


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
