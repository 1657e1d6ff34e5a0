import os
import shutil
import ssl
import stat
import subprocess

import pytest

from vitsearch_agent.base import tls
from vitsearch_agent.base.system import Output, System
from vitsearch_agent.errors import AgentError, InvalidRequest

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl command on this machine")


@pytest.fixture
def certificate(tmp_path):
    return tls.own_certificate(str(tmp_path), System())


@needs_openssl
def test_the_fingerprint_equals_the_one_that_openssl_prints(certificate):
    command = ["openssl", "x509", "-in", certificate.cert, "-noout", "-fingerprint", "-sha256"]
    output = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
    assert tls.checked_fingerprint(output.partition("=")[2]) == certificate.fingerprint


@needs_openssl
def test_the_certificate_is_made_once_with_mode_0600(certificate, tmp_path):
    assert tls.own_certificate(str(tmp_path), System(run=None)) == certificate
    assert stat.S_IMODE(os.stat(certificate.key).st_mode) == 0o600
    assert os.listdir(str(tmp_path)) == ["tls.pem"]


def test_without_openssl_the_error_names_the_options(tmp_path):
    missing = System(run=lambda argv: Output("", f"{argv[0]} cannot be run: No such file or directory"))
    with pytest.raises(AgentError, match="openssl cannot be run.*--tls-cert and --tls-key"):
        tls.own_certificate(str(tmp_path), missing)
    assert os.listdir(str(tmp_path)) == []


@needs_openssl
def test_a_key_of_another_certificate_is_refused(certificate, tmp_path):
    (tmp_path / "other").mkdir()
    other = tls.own_certificate(str(tmp_path / "other"), System())
    assert tls.read_certificate(certificate.cert, certificate.key).fingerprint != other.fingerprint
    with pytest.raises(InvalidRequest, match="cannot be used"):
        tls.read_certificate(certificate.cert, other.key)


@pytest.mark.parametrize("content", ["", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n"])
def test_an_error_names_the_file_that_is_not_a_certificate(tmp_path, content):
    path = tmp_path / "mine.pem"
    path.write_text(content)
    with pytest.raises(InvalidRequest, match="mine.pem"):
        tls.read_certificate(str(path), str(path))


@needs_openssl
def test_tls_1_0_and_1_1_are_refused(certificate):
    context = tls.server_context(certificate)
    lowest = getattr(context, "minimum_version", None)
    assert lowest is None or lowest >= ssl.TLSVersion.TLSv1_2 or context.options & ssl.OP_NO_TLSv1_1


@pytest.mark.parametrize("text", ["AB" * 32, "sha256:" + "ab" * 32, ":".join(["AB"] * 32) + "\n"])
def test_fingerprints_come_in_several_forms(text):
    assert tls.checked_fingerprint(text) == "sha256:" + "ab" * 32


@pytest.mark.parametrize("text", ["", "sha256:", "ab" * 20, "sha1:" + "ab" * 32, "xy" * 32])
def test_invalid_fingerprints_are_refused(text):
    with pytest.raises(InvalidRequest, match="64 hex digits"):
        tls.checked_fingerprint(text)
