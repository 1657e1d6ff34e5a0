"""A fake machine with systemd: real files below a folder, and recorded commands."""

import json
import re

import pytest

from vitsearch_agent.base.system import Output, System
from vitsearch_agent.cli.service.host import Host, Program
from vitsearch_agent.testing import ManualTime


class FakeMachine:
    """`commands` records the commands that change something. A started agent listens unless `last_words` is set."""

    def __init__(self, folder):
        self.folder = folder
        self.root = folder / "root"
        (self.root / "run/systemd/system").mkdir(parents=True)
        self.download = folder / "vitsearch-agent.pyz"
        self.download.write_bytes(b"version 1")
        self.commands = []
        self.groups = {"video", "render", "audio"}
        self.accounts = {"ada": ["ada"]}
        self.missing = set()
        self.fingerprint = None
        self.last_words = None
        self.silent = False
        self.time = ManualTime()
        self.system = System(str(self.root), self.run, self.time.clock, self.time.sleep)

    @property
    def program(self):
        return Program("/usr/bin/python3", str(self.download), ("/usr/bin/python3", "/usr"))

    root_user = Host("linux", True, "root", "/root")
    ada = Host("linux", False, "ada", "/home/ada")
    mac = Host("darwin", False, "ada", "/Users/ada")

    def file(self, path):
        return self.root / path.lstrip("/")

    def run(self, argv):
        words = [word for word in argv if word != "--user"]
        if words[0] in self.missing:
            return Output("", f"{words[0]} cannot be run: No such file or directory")
        if words[0] == "id":
            groups = self.accounts.get(words[2])
            return (
                Output("", "id ended with 1: no such user") if groups is None else Output(" ".join(groups) + "\n", None)
            )
        if words[0] == "getent":
            return Output("", None if words[2] in self.groups else "getent ended with 2: ")
        if words[0] == "loginctl":
            return Output("Linger=no\n", None)
        if words[:2] == ["systemctl", "is-failed"]:
            return Output("", None if self.last_words else "systemctl ended with 1: ")
        if words[:2] == ["systemctl", "show"]:
            return Output("InvocationID=a1b2\n", None)
        if words[:2] == ["journalctl", "_SYSTEMD_INVOCATION_ID=a1b2"]:
            return Output(f"{self.last_words}\n", None)
        if words[0] == "openssl" or words[1] == "-E":
            return Output("", None)
        self.commands.append(" ".join(argv))
        if words[0] == "useradd":
            self.accounts[words[-1]] = [words[-1]]
        if words[0] == "usermod":
            self.accounts[words[-1]] += words[-2].split(",")
        if words[0] == "userdel":
            del self.accounts[words[-1]]
        if words[:2] == ["systemctl", "restart"] or words[:2] == ["launchctl", "load"]:
            self._start()
        return Output("", None)

    def _start(self):
        if self.last_words or self.silent:
            return
        (definition,) = [path for path in self.root.rglob("vitsearch-agent.*") if path.suffix in (".service", ".plist")]
        text = definition.read_text()
        port_file = r"port-file(?:</string>\s*<string>|[ \"]+)([^\"<]*)/listening"
        state = self.file(re.search(port_file, text).group(1))
        port = int(re.search(r"--port\D+(\d+)", text).group(1))
        state.mkdir(parents=True, exist_ok=True)
        (state / "lock").touch()
        content = {"port": port, "device_id": "d", "fingerprint": self.fingerprint, "pid": 1}
        (state / "listening.json").write_text(json.dumps(content))


@pytest.fixture
def machine(tmp_path):
    return FakeMachine(tmp_path)
