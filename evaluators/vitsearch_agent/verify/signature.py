"""The signature of a bundle's list of checksums, judged by OpenSSH: `ssh-keygen -Y verify`.

SHA256SUMS.sig is a signature in the namespace NAMESPACE, and the file of signers has the format of allowed_signers
(ssh-keygen(1)): who may sign, each with a key. So a signature is worth what the reader knows of that key.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from typing import List, NamedTuple, Optional

from vitsearch_agent.base.plain_files import read_plain
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.verify.checksums import SIGNATURE

NAMESPACE = "vitsearch-bundle"
"""What a signature is for: one that was made for something else, such as a commit, is none of a bundle."""
SIGNATURE_MAX_BYTES, SIGNERS_MAX_BYTES = 64 << 10, 1 << 20
PRINCIPALS_MAX = 16
"""How many who share a key are tried."""
_TIMEOUT_S = 60.0


class SignatureVerdict(NamedTuple):
    """Whether a signature is good, and by whom, or why not."""

    good: bool
    reason: str


def is_there(folder: str) -> bool:
    """Whether a bundle has a signature, good or not."""
    return os.path.lexists(os.path.join(folder, SIGNATURE))


def judge(folder: str, content: bytes, signers: str) -> SignatureVerdict:
    """Judge the signature of `content`, the list of checksums of a bundle in `folder`, by a file of signers.

    InvalidRequest for a file of signers that cannot be read.
    """
    try:
        allowed = read_plain(signers, SIGNERS_MAX_BYTES, links=True)
    except OSError as error:
        raise InvalidRequest(f"--signers {signers} cannot be read: {error.strerror}") from error
    try:
        signature = read_plain(os.path.join(folder, SIGNATURE), SIGNATURE_MAX_BYTES)
    except FileNotFoundError:
        return SignatureVerdict(False, f"the bundle has no {SIGNATURE}")
    except OSError as error:
        return SignatureVerdict(False, f"{SIGNATURE} cannot be read: {error.strerror}")
    program = shutil.which("ssh-keygen")
    if program is None:
        return SignatureVerdict(
            False, "ssh-keygen, which judges it, is not on the PATH; it comes with OpenSSH 8.2 or newer"
        )
    with tempfile.TemporaryDirectory(prefix="vitsearch-signature-") as private:
        for name, data in (("signature", signature), ("signers", allowed)):
            with open(os.path.join(private, name), "wb") as stream:
                stream.write(data)
        return _judged(_Keygen(program, private), content)


class _Keygen(NamedTuple):
    """ssh-keygen, in a folder with the files `signature` and `signers`."""

    program: str
    folder: str

    def run(self, what: str, *options: str, content: bytes = b"") -> "_Output":
        command = [self.program, "-Y", what, "-f", "signers", "-s", "signature", *options]
        environment = dict(os.environ, LC_ALL="C")
        try:
            done = subprocess.run(
                command,
                input=content,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                env=environment,
                timeout=_TIMEOUT_S,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return _Output(False, [f"ssh-keygen has not ended well: {error}"])
        lines = done.stdout.decode("utf-8", "replace").splitlines()
        return _Output(done.returncode == 0, [line.strip() for line in lines if line.strip()])


class _Output(NamedTuple):
    succeeded: bool
    lines: List[str]

    @property
    def last(self) -> str:
        return self.lines[-1] if self.lines else "no reason given"


def _judged(keygen: _Keygen, content: bytes) -> SignatureVerdict:
    principals = keygen.run("find-principals")
    if not principals.succeeded:
        return SignatureVerdict(False, f"it is of no key that the file of signers allows ({principals.last})")
    refused: Optional[_Output] = None
    for principal in principals.lines[:PRINCIPALS_MAX]:
        verified = keygen.run("verify", "-I", principal, "-n", NAMESPACE, content=content)
        if verified.succeeded:
            return SignatureVerdict(True, f"{SIGNATURE} is of {principal}{_key(verified)}")
        refused = verified
    reason = "nobody is named" if refused is None else refused.last
    return SignatureVerdict(False, f"it is not a signature of these checksums, in the namespace {NAMESPACE} ({reason})")


def _key(verified: _Output) -> str:
    """The key by its kind and fingerprint, as ssh-keygen tells it."""
    with contextlib.suppress(ValueError):
        line = verified.lines[0]
        return ", " + line[line.rindex(" with ") + len(" with ") :]
    return ""
