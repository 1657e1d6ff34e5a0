"""The address of an agent, and the commands that register it on the machine that searches."""

import ipaddress
import socket
from typing import NamedTuple, Optional


class Address(NamedTuple):
    """`add` is the command for the machine that searches; `tunnel` must run before it, None on a network."""

    url: str
    add: str
    tunnel: Optional[str]

    @classmethod
    def of(cls, host: str, port: int, fingerprint: Optional[str]) -> "Address":
        """Return the address of an agent that listens on `host` and `port`; `fingerprint` is None without TLS."""
        name = socket.gethostname() if is_wildcard(host) else host
        url = f"{'https' if fingerprint else 'http'}://{f'[{name}]' if ':' in name else name}:{port}"
        pin = f" --fingerprint {fingerprint}" if fingerprint else ""
        tunnel = f"ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}" if is_loopback(host) else None
        return cls(url, f"vitsearch devices add {url}{pin}", tunnel)


def is_wildcard(host: str) -> bool:
    """Whether `host` stands for every address of the machine."""
    return host in ("", "0.0.0.0", "::")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
