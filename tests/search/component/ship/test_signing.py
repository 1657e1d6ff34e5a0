"""Bundles are signed by the ssh-keygen of this machine, and checked by it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest

from vitsearch.errors import BundleError, ResourceError
from vitsearch.ship import signing
from vitsearch.ship.writing import write
from vitsearch_agent.verify.checksums import SIGNATURE

CHECKSUMS = b"0" * 64 + b"  model.onnx\n"


@pytest.fixture
def is_signed(tmp_path):
    """is_signed(key, signature, content, namespace): what `ssh-keygen -Y verify` says, with the key of a signer."""

    def check(key, signature, content, namespace="vitsearch-bundle"):
        signers, file = tmp_path / "signers", tmp_path / "checked.sig"
        signers.write_text(f"ada@example.com {key.with_name(key.name + '.pub').read_text()}")
        file.write_bytes(signature)
        options = ("-f", signers, "-I", "ada@example.com", "-n", namespace, "-s", file)
        done = subprocess.run(["ssh-keygen", "-Y", "verify", *options], input=content, capture_output=True)
        return done.returncode == 0

    return check


def test_a_signature_is_one_of_openssh(new_key, is_signed):
    key = new_key()
    signature = signing.signature(key, CHECKSUMS)
    assert signature.startswith(b"-----BEGIN SSH SIGNATURE-----\n")
    assert is_signed(key, signature, CHECKSUMS)
    assert not is_signed(new_key("another"), signature, CHECKSUMS)
    assert not is_signed(key, signature, CHECKSUMS + b"\n")
    assert not is_signed(key, signature, CHECKSUMS, "git")


@pytest.mark.parametrize("kind", ["ecdsa", pytest.param("rsa", marks=pytest.mark.long)])
def test_keys_of_other_kinds_sign(new_key, is_signed, kind):
    key = new_key(kind=kind)
    assert is_signed(key, signing.signature(key, CHECKSUMS), CHECKSUMS)


def test_a_public_key_signs_where_an_agent_has_the_private_half(new_key, is_signed, tmp_path, monkeypatch):
    if shutil.which("ssh-agent") is None or shutil.which("ssh-add") is None:
        pytest.skip("no ssh-agent and ssh-add here; install openssh-client")
    key, socket = new_key(), tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.PIPE, text=True) as agent:
        assert agent.stdout is not None
        assert "SSH_AUTH_SOCK" in agent.stdout.readline()  # it listens
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        try:
            subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True)
            key.unlink()
            public = key.with_name("key.pub")
            signing.require(public)
            assert is_signed(key, signing.signature(public, CHECKSUMS), CHECKSUMS)
        finally:
            agent.terminate()


def test_a_key_with_a_dash_before_its_name_is_no_option(new_key, is_signed, tmp_path, monkeypatch):
    key = new_key("-Y")
    monkeypatch.chdir(tmp_path)
    path = key.relative_to(tmp_path)
    signing.require(path)
    assert is_signed(key, signing.signature(path, CHECKSUMS), CHECKSUMS)


def told(error, work):
    """The message, which is one line that any terminal can show."""
    with pytest.raises(error) as raised:
        work()
    assert str(raised.value).isprintable()
    return str(raised.value)


def test_what_is_no_key_is_one_line_before_anything_is_made(new_key, tmp_path):
    new_key()
    (tmp_path / "notes.txt").write_text("mine")
    os.mkfifo(tmp_path / "fifo")
    for name in ("nothing", ".", "fifo", "a\x1b[2J\nb", "n" * 300, "a\0b"):
        path = tmp_path / name
        assert "there is no such file" in told(BundleError, lambda path=path: signing.require(path))
    said = told(BundleError, lambda: signing.require(tmp_path / "notes.txt"))
    assert said.startswith(f"--sign {tmp_path / 'notes.txt'}: ssh-keygen: ")
    assert "is not a public key file" in said


def test_a_passphrase_that_nobody_gives_is_one_line(new_key, monkeypatch):
    key = new_key(passphrase="secret")
    monkeypatch.setenv("SSH_ASKPASS", "/bin/false")
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    signing.require(key)
    said = told(BundleError, lambda: signing.signature(key, CHECKSUMS))
    assert said.startswith(f"--sign {key}: ssh-keygen: ")
    assert "passphrase" in said


def test_a_public_key_whose_private_half_is_nowhere_is_one_line(new_key, monkeypatch):
    key = new_key()
    key.unlink()
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    said = told(BundleError, lambda: signing.signature(key.with_name("key.pub"), CHECKSUMS))
    assert said.startswith(f"--sign {key}.pub: ssh-keygen: ")


def test_a_key_that_others_can_read_is_one_line_with_the_reason(new_key):
    key = new_key()
    key.chmod(0o644)
    said = told(BundleError, lambda: signing.signature(key, CHECKSUMS))
    assert f"Permissions 0644 for '{key}' are too open; " in said
    assert "@" not in said


def test_a_machine_without_ssh_keygen_is_told_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("")
    monkeypatch.setenv("PATH", str(tmp_path))
    said = "--sign needs ssh-keygen of OpenSSH 8.1 or newer; install openssh-client (or openssh)"
    assert told(ResourceError, lambda: signing.require(tmp_path / "key")) == said


def files_of(model, **more):
    """The files of a bundle as far as writing reads them."""
    files = {"bundle.json": b'{"name": "tiny"}', "model.onnx": model}
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    return files | {"SHA256SUMS": "".join(lines).encode()} | more


def test_a_signed_bundle_is_replaced_by_a_later_one(tmp_path):
    for signature in (b"of 1", b"of 2"):
        write("tiny", files_of(signature, **{SIGNATURE: signature}), tmp_path / "here")
        assert (tmp_path / "here" / "SHA256SUMS.sig").read_bytes() == signature
    write("tiny", files_of(b"3"), tmp_path / "here")
    assert not (tmp_path / "here" / "SHA256SUMS.sig").exists()
