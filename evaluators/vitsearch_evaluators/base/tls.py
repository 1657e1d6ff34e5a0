"""Encryption without an authority: the agent signs its own certificate, the client knows its digest.

A fingerprint is `sha256:` and the hex SHA-256 of the certificate (DER). Whoever pins it needs neither
the host's name nor a right clock, which a board without a battery does not have when it starts.
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

from vitsearch_evaluators.base.atomic_files import replacing
from vitsearch_evaluators.base.system import System
from vitsearch_evaluators.errors import EvaluatorError, InvalidRequest

FILE_NAME = "tls.pem"
HANDSHAKE_S = 5.0

_DAYS = 3650
_FINGERPRINT = re.compile(r"sha256:[0-9a-f]{64}\Z")
_PEM_END = "-----END CERTIFICATE-----"


class Certificate(NamedTuple):
    """PEM files; the same one twice where it holds certificate and key."""

    cert: str
    key: str
    fingerprint: str


def checked_fingerprint(text: str) -> str:
    """Return a fingerprint in the one form that is compared; InvalidRequest for anything else."""
    plain = text.strip().lower()
    digits = plain[len("sha256:") :] if plain.startswith("sha256:") else plain
    candidate = "sha256:" + digits.replace(":", "")  # as openssl prints it
    if not _FINGERPRINT.match(candidate):
        raise InvalidRequest(f"a fingerprint is sha256: and 64 hex digits, got {text[:100]!r}")
    return candidate


def fingerprint_of(der: bytes) -> str:
    """Return the fingerprint of a certificate (DER)."""
    return "sha256:" + hashlib.sha256(der).hexdigest()


def own_certificate(state: str, system: System) -> Certificate:
    """Return the agent's certificate, made by the `openssl` command when there is none yet.

    The standard library cannot make one. Key and certificate are one file, 0600, put in place in one
    step, so that there is never one without the other.
    """
    path = os.path.join(state, FILE_NAME)
    if not os.path.exists(path):
        _make(path, system)
    return read_certificate(path, path)


def read_certificate(cert: str, key: str) -> Certificate:
    """Check that the files belong together and return them with the fingerprint."""
    try:
        with open(cert) as stream:
            text = stream.read()
        der = ssl.PEM_cert_to_DER_cert(text[text.index("-----BEGIN CERT") : text.index(_PEM_END)] + _PEM_END)
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"{cert} holds no certificate (PEM): {error}") from error
    certificate = Certificate(cert, key, fingerprint_of(der))
    server_context(certificate)
    return certificate


def server_context(certificate: Certificate) -> ssl.SSLContext:
    """Return the context of a server, TLS 1.2 or newer."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _refuse_old_versions(context)
    try:
        context.load_cert_chain(certificate.cert, certificate.key)
    except OSError as error:  # ssl.SSLError is one too
        raise InvalidRequest(f"{certificate.cert} and the key {certificate.key} cannot be used: {error}") from error
    return context


def accepted(plain: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
    """Shake hands with a client, who has HANDSHAKE_S for all of it; ssl.SSLError or socket.timeout if it fails.

    To be called in the connection's own thread: a client that says nothing must keep nobody else waiting.
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
    """Somebody wrote http:// and is told so in the only way that they can read."""
    error = InvalidRequest("this agent speaks TLS: its address begins with https://")
    content = json.dumps({"error": error.to_json()})
    head = f"HTTP/1.1 400 Bad Request\r\nContent-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    with contextlib.closing(plain), contextlib.suppress(OSError):
        plain.settimeout(1.0)
        plain.sendall((head + content).encode())
        plain.shutdown(socket.SHUT_WR)
        plain.recv(1 << 16)  # what is unread when it is closed would reset the line, and the answer is lost


def pinning_context() -> ssl.SSLContext:
    """Return the context of a client that compares the fingerprint itself, before it sends anything."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _refuse_old_versions(context)
    return context


def _make(path: str, system: System) -> None:
    import tempfile  # once in an agent's life

    folder = tempfile.mkdtemp(prefix="tls-", dir=os.path.dirname(path))  # 0700
    try:
        key, cert = os.path.join(folder, "key.pem"), os.path.join(folder, "cert.pem")
        command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        command += ["-sha256", "-days", str(_DAYS), "-subj", "/CN=vitsearch-agent", "-keyout", key, "-out", cert]
        reason = system.run(command).reason
        if reason is not None:
            raise EvaluatorError(
                "no_certificate",
                f"no certificate can be made: {reason}. Install openssl, or give files of your own with "
                "--tls-cert and --tls-key, or listen on 127.0.0.1 and use an ssh tunnel",
            )
        with replacing(path, 0o600) as stream:
            for part in (cert, key):
                with open(part, "rb") as source:
                    stream.write(source.read())
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_old_versions(context: ssl.SSLContext) -> None:
    if sys.version_info < (3, 10):  # later ones do it by themselves, and warn of these
        context.options |= ssl.OP_NO_TLSv1 | ssl.OP_NO_TLSv1_1
