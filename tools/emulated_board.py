"""Make and run an emulated aarch64 board: Debian's packages in a folder, run by qemu-user.

    python tools/emulated_board.py make FOLDER                # downloads some 300 MB, once
    python tools/emulated_board.py run FOLDER COMMAND...      # as root of the board, on the loopback of this machine

The packages are unpacked and not configured, so that no script of theirs runs. The board runs in a user namespace with
a binfmt_misc of its own (Linux 6.7 and newer): outside of FOLDER nothing of this machine changes. Its processor is
translated, so what it computes is what an Arm processor computes, and its times are those of no device.

The exit code is 0, that of COMMAND, or 75 where this machine cannot make or run a board; the reason is printed then.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

PACKAGES = (
    "base-files",
    "ca-certificates",
    "coreutils",
    "dash",
    "libc-bin",
    "libstdc++6",
    "openssl",
    "python3",
    "python3-venv",
)
WHEELS = ("onnxruntime", "ai-edge-litert")
"""What INSTALL.md installs on a Raspberry Pi."""
TOOLS = ("apt-get", "dpkg", "dpkg-deb", "unshare", "mount", "chroot", "tar")
LINUX = (6, 7)
"""The first with a binfmt_misc for each user namespace."""
UNAVAILABLE = 75
"""The exit code for a machine without a board: EX_TEMPFAIL of sysexits.h."""
WHEEL_FOLDER = "/opt/wheels"

_MAKER = 1
"""Changes where the same packages give another board."""
_TOP_LEVEL = ("bin", "lib", "sbin")
"""Links into /usr, which the packages have from Debian 13 on."""
_START = r"""
set -eu
mount -t binfmt_misc none "$BOARD/binfmt"
magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":qemu-aarch64:M::$magic:$mask:$BOARD/qemu-aarch64:OCF" > "$BOARD/binfmt/register"
for folder in proc sys dev; do mount --rbind "/$folder" "$BOARD/root/$folder"; done
cd /
exec chroot "$BOARD/root" "$@"
"""
"""Runs in the namespaces. The flag F opens the translator before the root changes, so the board has none."""


class Unavailable(Exception):
    """This machine cannot make or run a board; the message is the reason."""


@dataclass(frozen=True)
class Made:
    """What a board took to make: seconds, and the bytes that were downloaded and that it takes on the disk."""

    maker: int
    packages: tuple[str, ...]
    seconds: float
    downloaded_bytes: int
    root_bytes: int

    def describe(self) -> str:
        """Return the sizes and the time in words."""
        return (
            f"{self.downloaded_bytes / 1e6:.0f} MB downloaded, {self.root_bytes / 1e6:.0f} MB on the disk, "
            f"{self.seconds:.0f} s"
        )


@dataclass(frozen=True)
class Board:
    """A board in `folder`, which has its root, the translator and the mount point of binfmt_misc."""

    folder: Path

    @property
    def root(self) -> Path:
        return self.folder / "root"

    def command(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> list[str]:
        """Return the command of this machine that runs `argv` on the board.

        Args:
            argv: The command; its program is the first that the board finds.
            environment: Variables beside the usual ones.

        Returns:
            The command, whose process becomes that of `argv`: it has its pid and gets its signals.
        """
        variables = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": "/root",
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            **(environment or {}),
        }
        settings = [f"{name}={value}" for name, value in variables.items()]
        namespaces = ["unshare", "--user", "--map-root-user", "--mount", "env", f"BOARD={self.folder}"]
        return [*namespaces, "sh", "-c", _START, "sh", "/usr/bin/env", "-i", *settings, *argv]


def require_host() -> None:
    """Raise Unavailable unless this machine can run a board."""
    if sys.platform != "linux" or platform.machine() != "x86_64":
        raise Unavailable(f"a board is emulated on Linux on x86-64; this is {sys.platform} on {platform.machine()}")
    release = re.match(r"(\d+)\.(\d+)", platform.release())
    if release is None or tuple(map(int, release.groups())) < LINUX:
        raise Unavailable(f"Linux {LINUX[0]}.{LINUX[1]} or newer is needed; this is {platform.release()}")
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise Unavailable(f"missing: {', '.join(missing)}; the board is made of Debian's packages")
    trial = "mount -t binfmt_misc none /proc/sys/fs/binfmt_misc && test -w /proc/sys/fs/binfmt_misc/register"
    done = _output(["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", trial])
    if done.returncode:
        raise Unavailable(f"no user namespace with a binfmt_misc of its own: {done.stderr.strip()[-200:]}")


def make(folder: Path) -> Made:
    """Make the board in `folder`, unless it is there.

    Args:
        folder: What is in it is removed if it was made of other packages, or not to its end.

    Returns:
        What the board took when it was made.

    Raises:
        Unavailable: This machine cannot run a board, or a package cannot be had here.
    """
    require_host()
    stored = folder / "made.json"
    if stored.exists():
        made = json.loads(stored.read_text())
        if (made["maker"], tuple(made["packages"])) == (_MAKER, PACKAGES + WHEELS):
            return Made(**made | {"packages": tuple(made["packages"])})
    start = time.monotonic()
    board = Board(folder.resolve())
    for name in ("root", "apt", "debs", "binfmt"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    downloaded = _unpack_translator(board) + _unpack_packages(board)
    downloaded += _download_wheels(board)
    _write_settings(board)
    for name in ("apt", "debs"):
        shutil.rmtree(folder / name)
    made = Made(_MAKER, PACKAGES + WHEELS, round(time.monotonic() - start, 1), downloaded, _size(board.root))
    stored.write_text(json.dumps(asdict(made), indent=2) + "\n")
    return made


def _unpack_translator(board: Board) -> int:
    """Take the translator out of a package of this machine's own architecture; return the package's size in bytes."""
    folder = board.folder / "debs"
    for package in ("qemu-user", "qemu-user-static"):  # static in Debian 13 and newer; the second one before
        _call(["apt-get", "--quiet", "-o", "APT::Sandbox::User=root", "download", package], folder)
        deb = next(folder.glob(f"{package}_*.deb"))
        _unpack(deb, folder, "--wildcards", "./usr/bin/qemu-aarch64*")
        found = [path for path in folder.glob("usr/bin/qemu-aarch64*") if "_be" not in path.name]
        static = [path for path in found if b"ld-linux" not in path.read_bytes()[:4096]]
        if static:
            shutil.copy(static[0], board.folder / "qemu-aarch64")
            return deb.stat().st_size
    raise Unavailable("apt has no static qemu-aarch64")


def _unpack_packages(board: Board) -> int:
    """Download packages and what they depend on from this machine's own mirrors, verified by apt, and unpack them;
    return their size in bytes."""
    for name in ("state/lists/partial", "cache/archives/partial"):
        (board.folder / "apt" / name).mkdir(parents=True)
    (board.folder / "apt" / "status").touch()
    for name in _TOP_LEVEL:
        (board.root / "usr" / name).mkdir(parents=True)
        (board.root / name).symlink_to(f"usr/{name}")
    settings = {
        "APT::Architecture": "arm64",
        "APT::Architectures::": "arm64",
        "APT::Sandbox::User": "root",
        "Dir::State": f"{board.folder}/apt/state",
        "Dir::State::status": f"{board.folder}/apt/status",
        "Dir::Cache": f"{board.folder}/apt/cache",
        "Acquire::GzipIndexes": "true",
        "Debug::NoLocking": "true",
    }
    apt = ["apt-get", "--quiet", *(word for item in settings.items() for word in ("-o", "=".join(item)))]
    _call([*apt, "update"], board.folder)
    _call([*apt, "install", "--yes", "--download-only", "--no-install-recommends", *PACKAGES], board.folder)
    debs = sorted((board.folder / "apt" / "cache" / "archives").glob("*.deb"))
    for deb in debs:
        _unpack(deb, board.root, "--keep-directory-symlink")  # /lib stays a link to /usr/lib
    return _size(board.folder / "apt" / "state" / "lists") + sum(deb.stat().st_size for deb in debs)


def _download_wheels(board: Board) -> int:
    """Download wheels for the Python and the C library of the board; return their size in bytes."""
    python = next(board.root.glob("usr/bin/python3.*")).name.removeprefix("python")
    library = board.root / "usr/lib/aarch64-linux-gnu/libc.so.6"
    newest = max(int(minor) for minor in re.findall(rb"GLIBC_2\.(\d+)", library.read_bytes()))
    folder = board.root / WHEEL_FOLDER.lstrip("/")
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in range(17, newest + 1)]
    options = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", f"--dest={folder}"]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    _call([*pip, *options, "--platform=manylinux2014_aarch64", *platforms, *WHEELS], board.folder)
    return sum(wheel.stat().st_size for wheel in folder.iterdir())


def _write_settings(board: Board) -> None:
    """Write what the scripts of the packages would have made, as far as the board needs it."""
    texts = {
        "passwd": "root:x:0:0:root:/root:/bin/sh\n",
        "group": "root:x:0:\n",
        "hosts": "127.0.0.1 localhost\n",
        "machine-id": f"{uuid.uuid4().hex}\n",
    }
    for name, text in texts.items():
        (board.root / "etc" / name).write_text(text)
    certificates = sorted((board.root / "usr/share/ca-certificates").glob("**/*.crt"))
    (board.root / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
    with (board.root / "etc/ssl/certs/ca-certificates.crt").open("w") as stream:  # pip reads it, also offline
        stream.writelines(certificate.read_text() for certificate in certificates)
    for name in ("proc", "sys", "dev", "tmp", "root", "var/lib"):
        (board.root / name).mkdir(parents=True, exist_ok=True)
    (board.root / "tmp").chmod(0o1777)


def _unpack(deb: Path, folder: Path, *options: str) -> None:
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as packed:
        done = subprocess.run(["tar", "--extract", "--no-same-owner", *options], cwd=folder, stdin=packed.stdout)
    if packed.returncode or done.returncode:
        raise Unavailable(f"{deb.name} cannot be unpacked")


def _call(command: Sequence[str], folder: Path) -> None:
    done = _output(command, folder)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()[-3:]
        raise Unavailable(f"{command[0]} ended with {done.returncode}: {' '.join(lines)}")


def _output(command: Sequence[str], folder: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(command), cwd=folder, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def _size(folder: Path) -> int:
    return sum(os.lstat(path).st_size for path in _files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for where, _, names in os.walk(folder):
        yield from (Path(where, name) for name in names)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["make", "run"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        made = make(arguments.folder)
    except Unavailable as unavailable:
        print(f"no emulated board: {unavailable}", file=sys.stderr)
        return UNAVAILABLE
    if arguments.action == "make":
        print(f"{arguments.folder}: {made.describe()}")
        return 0
    command = Board(arguments.folder.resolve()).command(arguments.command)
    sys.stdout.flush()
    os.execvp(command[0], command)


if __name__ == "__main__":
    sys.exit(main())
