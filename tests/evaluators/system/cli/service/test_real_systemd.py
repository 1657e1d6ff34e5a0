"""`install` on a real systemd that boots: the agent is installed, killed, misconfigured, rebooted and removed."""

import importlib.util
import pathlib
import re

import pytest

from support import REPOSITORY, real_systemd
from vitsearch_agent import __version__
from vitsearch_agent.base import sandbox

TOOLS = r"""
wait_for() { for _ in $(seq 600); do "$@" > /dev/null 2>&1 && return; sleep 0.1; done; echo "timed out: $*"; }
property() { systemctl show --property="$1" --value vitsearch-agent; }
listens() { grep -q '"pid": '"$(property MainPID)"'[^0-9]' /var/lib/vitsearch/listening.json; }
another() { [ "$(property MainPID)" != "$before" ]; }
failed() { [ "$(property ActiveState)" = failed ]; }
agent() { /usr/bin/python3 "$@"; }
"""

FIRST_BOOT = (
    TOOLS
    + r"""
mkdir -p /etc/systemd/system/vitsearch-agent.service.d
printf '[Service]\nRestartSec=100ms\n' > /etc/systemd/system/vitsearch-agent.service.d/quick.conf
agent /shared/vitsearch-agent.pyz install --host 0.0.0.0
echo "account: $(id -nG vitsearch | tr ' ' '\n' | head -n 1), state: $(stat -c '%U %a' /var/lib/vitsearch)"
echo "cgroup: $(tail -n 1 /proc/$(property MainPID)/cgroup)"
wait_for test -e /var/lib/vitsearch/restrictions.json
agent /opt/vitsearch/vitsearch-agent.pyz status --state /var/lib/vitsearch
for signal in KILL TERM; do
    before=$(property MainPID); kill -$signal "$before"
    wait_for another; wait_for listens; echo "restarted after $signal"
done
agent /opt/vitsearch/vitsearch-agent.pyz install --port 9000 | tail -n 3
echo '{"limits": {"qouta_mb": 1}}' > /var/lib/vitsearch/config.json
systemctl restart vitsearch-agent; wait_for failed
echo "wrong configuration: exit $(property ExecMainStatus), restarts $(property NRestarts)"
agent /opt/vitsearch/vitsearch-agent.pyz install > /dev/null; echo "install: exit $?"
rm /var/lib/vitsearch/config.json
agent /opt/vitsearch/vitsearch-agent.pyz install > /dev/null; echo "fixed: exit $?"
"""
)

SECOND_BOOT = (
    TOOLS
    + r"""
wait_for listens
echo "after a boot: $(systemctl is-active vitsearch-agent), $(grep -o '"port": 9000' /var/lib/vitsearch/listening.json)"
agent /opt/vitsearch/vitsearch-agent.pyz uninstall --purge > /dev/null; echo "uninstall: exit $?"
ls -d /opt/vitsearch /var/lib/vitsearch /etc/systemd/system/vitsearch-agent.service 2> /dev/null
id vitsearch > /dev/null 2>&1 || echo "no account"
systemctl is-active vitsearch-agent
"""
)


def load(name, path):
    spec = importlib.util.spec_from_file_location(name, str(path))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def has_landlock():
    try:
        return sandbox.landlock_abi() > 0
    except OSError:
        return False


@pytest.fixture
def machine(tmp_path):
    reason = real_systemd.missing()
    if reason is not None:
        pytest.skip(reason)
    machine = real_systemd.RealSystemd(tmp_path)
    tool = load("make_agent_pyz", pathlib.Path(REPOSITORY, "tools", "make_agent_pyz.py"))
    tool.build(machine.shared / "vitsearch-agent.pyz")
    if machine.boot("echo booted") != "booted\n":
        pytest.skip(f"no systemd boots here: {machine.console[-300:]}")
    return machine


@pytest.mark.long
def test_the_service_survives_crashes_wrong_configurations_and_boots(machine):
    output = machine.boot(FIRST_BOOT)
    assert not re.search("^(Traceback|timed out)", output, re.MULTILINE), output
    assert f"\nvitsearch-agent {__version__} listens on https://" in output
    assert "--fingerprint sha256:" in output
    assert "account: vitsearch, state: vitsearch 700\n" in output
    assert "cgroup: 0::/system.slice/vitsearch-agent.service" in output
    assert "  user      NO   a model runs as the agent's own user, uid " in output
    assert has_landlock() is ("  files     yes  Landlock ABI " in output)
    assert "  network   yes  network namespace\n" in output, "the unit lets a child of its user make one"
    assert "restarted after KILL\nrestarted after TERM\n" in output
    assert ":9000 --fingerprint" in output, "the same host, another port"
    assert "wrong configuration: exit 78, restarts 0\n" in output
    assert "config.json.limits: unknown qouta_mb" in output, "the message of the agent"
    assert output.endswith("install: exit 2\nfixed: exit 0\n")

    output = machine.boot(SECOND_BOOT)
    assert output == 'after a boot: active, "port": 9000\nuninstall: exit 0\nno account\ninactive\n'
