"""Signatures of real keys, judged by the real ssh-keygen."""

import os
import shutil
import subprocess

import pytest

from support.bundles import manifest, write_bundle
from vitsearch_agent.cli import app
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.verify.checksums import read_list
from vitsearch_agent.verify.signature import NAMESPACE, SIGNATURE_MAX_BYTES, judge

pytestmark = pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="ssh-keygen is not installed")


@pytest.fixture
def key(tmp_path):
    """key(name) -> the path of a new private key."""

    def key(name):
        path = str(tmp_path / name)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", path], check=True)
        return path

    return key


@pytest.fixture
def folder(tmp_path):
    return write_bundle(tmp_path / "tiny", manifest(images=None))


@pytest.fixture
def signers(tmp_path):
    """signers(principals=path of a key, ...) -> the path of a file of allowed signers."""

    def signers(**keys):
        path = tmp_path / "allowed_signers"
        with open(str(path), "w") as stream:
            for principals, private in keys.items():
                with open(private + ".pub") as public:
                    stream.write(f"{principals} {public.read()}")
        return str(path)

    return signers


def sign(folder, private, namespace=NAMESPACE):
    path = os.path.join(folder, "SHA256SUMS")
    subprocess.run(["ssh-keygen", "-q", "-Y", "sign", "-f", private, "-n", namespace, path], check=True)


def verdict(folder, signers):
    return judge(folder, read_list(folder), signers)


def test_a_signature_of_an_allowed_key_is_good(folder, key, signers):
    alice = key("alice")
    sign(folder, alice)
    good, reason = verdict(folder, signers(alice=alice, bob=key("bob")))
    assert good
    assert reason.startswith("SHA256SUMS.sig is of alice, ED25519 key SHA256:")


def test_each_principal_of_a_key_is_tried(folder, key, signers):
    alice = key("alice")
    sign(folder, alice)
    path = signers(release=alice, alice=alice)
    with open(path) as stream:
        first, second = stream.read().splitlines()
    with open(path, "w") as stream:
        stream.write(f"{first.replace('release ', 'release valid-before=20200101 ')}\n{second}\n")
    good, reason = verdict(folder, path)
    assert good
    assert "is of alice" in reason


def test_another_key_is_refused(folder, key, signers):
    sign(folder, key("mallory"))
    good, reason = verdict(folder, signers(alice=key("alice")))
    assert not good
    assert reason.startswith("it is of no key that the file of signers allows (")


def test_another_namespace_is_refused(folder, key, signers):
    alice = key("alice")
    sign(folder, alice, "git")
    good, reason = verdict(folder, signers(alice=alice))
    assert not good
    assert "in the namespace vitsearch-bundle (" in reason


def test_changed_checksums_are_refused(folder, key, signers, tmp_path):
    alice = key("alice")
    sign(folder, alice)
    with open(str(tmp_path / "tiny" / "SHA256SUMS"), "a") as stream:
        stream.write("{}  more\n".format("0" * 64))
    good, reason = verdict(folder, signers(alice=alice))
    assert not good
    assert reason.startswith("it is not a signature of these checksums")


def test_no_signature_is_refused(folder, key, signers):
    assert verdict(folder, signers(alice=key("alice"))) == (False, "the bundle has no SHA256SUMS.sig")


def write(path, content):
    with open(path, "wb") as stream:
        stream.write(content)


HOSTILE = {
    "FIFO": (os.mkfifo, "it is a FIFO"),
    "link": (lambda path: os.symlink("/dev/zero", path), "it is a link"),
    "folder": (os.mkdir, "it is a folder"),
    "long": (lambda path: write(path, bytes(SIGNATURE_MAX_BYTES + 1)), "it has more than 65536 bytes"),
    "empty": (lambda path: write(path, b""), "it is of no key that the file of signers allows"),
    "text": (lambda path: write(path, b"\x1b[2J signature"), "it is of no key that the file of signers"),
}


@pytest.mark.parametrize(("make", "message"), HOSTILE.values(), ids=HOSTILE)
def test_what_is_no_signature_is_refused(folder, key, signers, make, message):
    make(os.path.join(folder, "SHA256SUMS.sig"))
    good, reason = verdict(folder, signers(alice=key("alice")))
    assert not good
    assert message in reason


def test_without_ssh_keygen_nothing_is_signed(folder, key, signers, monkeypatch):
    alice = key("alice")
    sign(folder, alice)
    path = signers(alice=alice)
    monkeypatch.setenv("PATH", os.path.dirname(folder))
    good, reason = verdict(folder, path)
    assert not good
    assert reason.startswith("ssh-keygen, which judges it, is not on the PATH")


def test_an_old_ssh_keygen_is_a_reason(folder, key, signers, monkeypatch, tmp_path):
    alice = key("alice")
    sign(folder, alice)
    path = signers(alice=alice)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "ssh-keygen").write_text("#!/bin/sh\necho 'unknown option -- Y' >&2\nexit 1\n")
    (tmp_path / "bin" / "ssh-keygen").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert verdict(folder, path) == (False, "it is of no key that the file of signers allows (unknown option -- Y)")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path), lambda path: None])
def test_a_file_of_signers_that_is_none_is_an_error(folder, tmp_path, make):
    make(str(tmp_path / "signers"))
    with pytest.raises(InvalidRequest, match="--signers .*signers cannot be read: "):
        verdict(folder, str(tmp_path / "signers"))


def said(capsys, *arguments):
    code = app.main(["verify", *arguments])
    return code, capsys.readouterr().out.splitlines()


def test_the_check_of_a_signature_is_printed_and_a_bad_one_runs_nothing(folder, key, signers, capsys):
    alice = key("alice")
    sign(folder, alice)
    code, lines = said(capsys, folder, "--no-measure", "--signers", signers(alice=alice))
    assert code == 0
    assert lines[1].startswith("passed      signature  SHA256SUMS.sig is of alice, ED25519 key SHA256:")
    code, lines = said(capsys, folder, "--signers", signers(bob=key("bob")))
    assert code == 1
    assert [line.split()[:2] for line in lines[:-1]] == [["passed", "files"], ["failed", "signature"]]
    assert lines[-1] == "bundle tiny: failed"


def test_without_signers_a_signature_is_there_and_not_judged(folder, capsys):
    with open(os.path.join(folder, "SHA256SUMS.sig"), "w") as stream:
        stream.write("anything")
    code, lines = said(capsys, folder, "--no-measure")
    assert lines[1] == "not judged  signature  SHA256SUMS.sig is there; --signers FILE judges it"
