"""Where an agent can be reached, and what makes it known on the machine that searches."""

import ipaddress
import socket
from typing import NamedTuple, Optional


class Address(NamedTuple):
    """`add` is the command for the machine that searches; `tunnel` the one that it needs first, None on a network."""

    url: str
    add: str
    tunnel: Optional[str]

    @classmethod
    def of(cls, host: str, port: int, fingerprint: Optional[str]) -> "Address":
        name = socket.gethostname() if is_everywhere(host) else host
        url = f"{'https' if fingerprint else 'http'}://{f'[{name}]' if ':' in name else name}:{port}"
        pin = f" --fingerprint {fingerprint}" if fingerprint else ""
        tunnel = f"ssh -N -L {port}:127.0.0.1:{port} {socket.gethostname()}" if is_loopback(host) else None
        return cls(url, f"vitsearch devices add {url}{pin}", tunnel)


def is_everywhere(host: str) -> bool:
    """Whether this stands for every address of the machine."""
    return host in ("", "0.0.0.0", "::")


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches that address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
