"""A real systemd that boots in its own namespaces; all its changes are in a folder and vanish with it.

Its files are those of this machine, seen through an overlay; it has only the units that it needs to boot.
"""

import os
import shutil
import signal
import subprocess

INIT = "/lib/systemd/systemd"
PYTHON = "/usr/bin/python3"
SAFETY_NET_S = 120

_TOOLS = ("unshare", "pivot_root", "mount", "ip", "systemctl", "useradd", "openssl", "setpriv")

# A minimal boot: no hardware, no network, no getty.
_TARGETS = {
    "sysinit.target": "DefaultDependencies=no\nConflicts=shutdown.target\nWants=systemd-journald.service",
    "basic.target": "DefaultDependencies=no\nRequires=sysinit.target\nAfter=sysinit.target",
    "multi-user.target": "Requires=basic.target\nAfter=basic.target",
    "default.target": "Requires=multi-user.target\nAfter=multi-user.target\nWants=script.service",
    "network.target": "",
}
_COPIED_UNITS = (
    "exit.target",
    "final.target",
    "shutdown.target",
    "systemd-exit.service",
    "systemd-journald.service",
    "systemd-journald.socket",
    "umount.target",
)
_SCRIPT = """\
[Unit]
After=multi-user.target systemd-journald.service
[Service]
Type=oneshot
ExecStart=/bin/bash /shared/script.sh
StandardOutput=append:/shared/output
StandardError=append:/shared/output
ExecStopPost=/bin/systemctl --no-block exit
"""

# Gives the machine its own cgroup, and removes the groups that it leaves there.
_OUTSIDE = """\
set -e
cd "$1"
mount -t cgroup2 cgroup2 group
own=group$(sed -n 's/^0:://p' /proc/self/cgroup)
own=${own%/}/vitsearch-test-$$
mkdir "$own"
namespaces="--pid --fork --kill-child=SIGKILL --mount --ipc --uts --net --cgroup"
(echo $BASHPID > "$own/cgroup.procs"; exec unshare $namespaces bash -c "$2" inside) || true
find "$own" -depth -type d -exec rmdir {} +
"""

# The first process of the namespaces, which becomes systemd. It cannot change kernel settings or /dev.
_INSIDE = """\
set -e
mount -t overlay overlay -o lowerdir=/,upperdir=upper,workdir=work root
mount -t proc proc root/proc
mount --bind root/proc/sys root/proc/sys
mount -o remount,bind,ro root/proc/sys
mount -t sysfs -o ro sysfs root/sys
mount -t cgroup2 cgroup2 root/sys/fs/cgroup
for folder in run tmp dev; do mount -t tmpfs tmpfs root/$folder; done
for name in null zero full random urandom tty; do touch root/dev/$name; mount --bind /dev/$name root/dev/$name; done
touch root/dev/console
mount --bind console root/dev/console
mkdir -m 1777 root/dev/shm
ln -s /proc/self/fd root/dev/fd
mkdir -p root/shared root/old
mount --bind shared root/shared
mount --bind units root/usr/lib/systemd/system
ip link set lo up
cd root
pivot_root . old
cd /
umount -l old
export container=vitsearch-test
exec /lib/systemd/systemd --system --log-target=console --show-status=0
"""


class RealSystemd:
    """A machine that can boot several times; its disk persists. It sees the folder `shared` as /shared."""

    def __init__(self, folder):
        self._folder = folder
        self.shared = folder / "shared"
        for name in ("upper", "work", "root", "group", "shared", "units"):
            (folder / name).mkdir()
        for name in _COPIED_UNITS:
            shutil.copy(os.path.join("/usr/lib/systemd/system", name), str(folder / "units" / name))
        for name, content in _TARGETS.items():
            (folder / "units" / name).write_text(f"[Unit]\n{content}\n")
        (folder / "units" / "script.service").write_text(_SCRIPT)

    def boot(self, script):
        """Boot, run a bash script as root and power off; return its output, "" when the boot failed."""
        (self.shared / "script.sh").write_text(script)
        output = self.shared / "output"
        output.write_text("")
        with open(str(self._folder / "console"), "ab") as console:
            process = subprocess.Popen(
                ["unshare", "--mount", "bash", "-c", _OUTSIDE, "outside", str(self._folder), _INSIDE],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
            try:
                process.wait(SAFETY_NET_S)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        return output.read_text()

    @property
    def console(self):
        return (self._folder / "console").read_text(errors="replace")


def missing():
    """Return the reason why no systemd can boot here, None when it can be tried."""
    if os.geteuid() != 0:
        return "only root may boot a systemd"
    for path in (INIT, PYTHON):
        if not os.path.exists(path):
            return f"no {path} here"
    absent = [tool for tool in _TOOLS if shutil.which(tool) is None]
    return f"no {', '.join(absent)} here" if absent else None
