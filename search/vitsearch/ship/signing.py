"""The signature of a bundle: that of its SHA256SUMS, which `ssh-keygen` of OpenSSH makes and checks."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from vitsearch.errors import BundleError, ResourceError
from vitsearch_agent.base.printable import printable
from vitsearch_agent.verify.signature import NAMESPACE


def require(key: Path) -> None:
    """Raise `ResourceError` where nothing can be signed here, and `BundleError` for what is no key."""
    if shutil.which("ssh-keygen") is None:
        raise ResourceError("--sign needs ssh-keygen of OpenSSH 8.1 or newer; install openssh-client (or openssh)")
    if not os.path.isfile(key):
        raise BundleError(f"--sign {printable(str(key))}: there is no such file; name a key of OpenSSH")
    _run(key, "-l")  # shows the public half, for which nobody is asked for a passphrase


def signature(key: Path, content: bytes) -> bytes:
    """Sign what SHA256SUMS holds. The key may be a public one whose private half an agent holds. For a passphrase
    ssh-keygen itself asks, at the terminal."""
    return _run(key, "-Y", "sign", "-n", NAMESPACE, content=content)


def _run(key: Path, *options: str, content: bytes = b"") -> bytes:
    command = ["ssh-keygen", *options, "-f", os.path.abspath(key)]
    try:
        done = subprocess.run(command, input=content, capture_output=True, check=False)
    except OSError as error:
        raise ResourceError(f"--sign needs ssh-keygen, which does not start: {error.strerror}") from error
    if done.returncode != 0:
        said = _reasons(done.stderr.decode(errors="replace")) or f"exit code {done.returncode}"
        raise BundleError(f"--sign {printable(str(key))}: ssh-keygen: {said}")
    return done.stdout


def _reasons(said: str) -> str:
    """What ssh-keygen says, without its frames and what it says each time, as one line."""
    lines = [printable(line.strip().rstrip(".")) for line in said.splitlines() if line[:1] != "@"]
    return "; ".join(line for line in lines if line and line != "Signing data on standard input")
