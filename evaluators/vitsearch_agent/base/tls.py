"""TLS without an authority: the agent signs its own certificate, and the client pins its fingerprint.

A fingerprint is `sha256:` and the hex SHA-256 of the certificate (DER). A client that pins it needs neither the
host's name nor a correct clock, which a board without a battery does not have when it starts.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import ssl
import sys
from typing import NamedTuple

from vitsearch_agent.base.atomic_files import replacing
from vitsearch_agent.base.system import System
from vitsearch_agent.errors import AgentError, InvalidRequest

FILE_NAME = "tls.pem"
HANDSHAKE_S = 5.0

_DAYS = 3650
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}\Z")
_PEM_END = "-----END CERTIFICATE-----"


class Certificate(NamedTuple):
    """Paths of PEM files, twice the same path if one file holds certificate and key, and the fingerprint."""

    cert: str
    key: str
    fingerprint: str


def checked_fingerprint(text: str) -> str:
    """Return a fingerprint in its normal form; InvalidRequest if `text` is not a fingerprint."""
    plain = text.strip().lower()
    digits = plain[len("sha256:") :] if plain.startswith("sha256:") else plain
    candidate = "sha256:" + digits.replace(":", "")  # as openssl prints it
    if not _FINGERPRINT.match(candidate):
        raise InvalidRequest(f"fingerprint: expected sha256: and 64 hex digits, got {text[:100]!r}")
    return candidate


def fingerprint_of(der: bytes) -> str:
    """Return the fingerprint of a certificate (DER)."""
    return "sha256:" + hashlib.sha256(der).hexdigest()


def own_certificate(state: str, system: System) -> Certificate:
    """Return the agent's own certificate; the `openssl` command makes it the first time.

    The standard library cannot make one. Key and certificate are in one file, mode 0600, that is put in place in
    one step, so that neither ever exists without the other.
    """
    path = os.path.join(state, FILE_NAME)
    if not os.path.exists(path):
        _make(path, system)
    return read_certificate(path, path)


def read_certificate(cert: str, key: str) -> Certificate:
    """Return the certificate of two PEM files; InvalidRequest if they cannot be used or do not belong together."""
    try:
        with open(cert) as stream:
            text = stream.read()
        der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT") : text.index(_PEM_END)] + _PEM_END)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{cert} is not a certificate in PEM format: {error}") from error
    certificate = Certificate(cert, key, fingerprint_of(der))
    server_context(certificate)
    return certificate


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """Return a server's TLS context, for TLS 1.2 or newer."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _refuse_old_versions(context)
    try:
        context.load_cert_chain(certificate.cert, certificate.key)
    except OSError as error:  # includes ssl.SSLError
        raise InvalidRequest(f"{certificate.cert} and the key {certificate.key} cannot be used: {error}") from error
    return context


def accepted(plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Do the TLS handshake with a client, within HANDSHAKE_S seconds; ssl.SSLError or socket.timeout if it fails.

    Call it in the connection's own thread, so that a silent client does not block the others.
    """
    plain.settimeout(HANDSHAKE_S)
    encrypted = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
    try:
        encrypted.do_handshake()
    except OSError as error:
        if getattr(error, "reason", None) == "HTTP_REQUEST":
            _ask_for_tls(socket.socket(fileno=encrypted.detach()))
        encrypted.close()
        raise
    return encrypted


def _ask_for_tls(plain: socket.socket) -> None:
    """Answer a client that used http:// with a plain HTTP error, the only answer that it can read."""
    error = InvalidRequest("this agent uses TLS: its address begins with https://")
    content = json.dumps({"error": error.to_json()})
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    with contextlib.closing(plain), contextlib.suppress(OSError):
        plain.settimeout(1.0)
        plain.sendall((head + content).encode())
        plain.shutdown(socket.SHUT_WR)
        plain.recv(1 << 16)  # unread input at the close would reset the connection and lose the answer


def pinning_context() -> ssl.SSLContext:
    """Return the TLS context of a client that compares the fingerprint itself, before it sends anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _refuse_old_versions(context)
    return context


def _make(path: str, system: System) -> None:
    import tempfile  # needed only once, so not at start-up

    folder = tempfile.mkdtemp(prefix="tls-", dir=os.path.dirname(path))  # 0700
    try:
        key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-sha256", "-days", str(_DAYS), "-subj", "/CN=vitsearch-agent", "-keyout", key, "-out", cert]
        reason = system.run(command).reason
        if reason is not None:
            raise AgentError(
                "no_certificate",
                f"cannot make a certificate: {reason}. Install openssl, or pass your own files with "
                "--tls-cert and --tls-key, or listen on 127.0.0.1 and use an ssh tunnel",
            )
        with replacing(path, 0o600) as stream:
            for part in (cert, key):
                with open(part, "rb") as source:
                    stream.write(source.read())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_old_versions(context: ssl.SSLContext) -> None:
    if sys.version_info < (3, 10):  # later versions refuse them by default and warn about these options
        context.options |= ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
