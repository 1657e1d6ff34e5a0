"""Reads what a machine says of its hardware, from files that every user may read, and some that only root may.

serial number      the device tree, else DMI (root only)
network adapters   the built-in ones with an address that is unique in the world; a container sees none
machine-id         /etc/machine-id: missing, empty or that of the image in many containers
"""

import hashlib
import platform
import re
from typing import Iterator, Optional

from vitsearch_agent.base.system import THIS_MACHINE, System
from vitsearch_agent.conditions.environment import board_model
from vitsearch_agent.conditions.processor import cpu_part
from vitsearch_agent.wire.hardware import Hardware

_TREE_SERIAL = "/proc/device-tree/serial-number"
_DMI_SERIALS = tuple("/sys/class/dmi/id/" + name for name in ("product_uuid", "board_serial", "product_serial"))
_NO_SERIAL = re.compile(
    r"[\W_0]*|[\W_f]*|(to be filled|default string|not (specified|applicable|available)|none|unknown|n/a|"
    r"system serial|base board serial|chassis serial|0?123456789|03000200-0400-0500-0006-000700080009).*"
)
"""What manufacturers leave where a serial number should be."""
_MACHINE_ID = re.compile(r"[0-9a-f]{32}\Z")
_DIGEST_LENGTH = 32
_LOCAL_BIT = 0x02
"""In the first byte of a network address: somebody chose it, so others may have the same."""


def hardware_of(system: System, machine: System = THIS_MACHINE) -> Hardware:
    """Return the hardware of a device.

    `system` is that of the device, which differs from this machine for an emulated one. What that does not say is that
    of `machine`, which computes in its place.
    """
    hardware = read_hardware(system)
    if system.root == machine.root:
        return hardware
    host = read_hardware(machine)
    return hardware.completed_by(host)._replace(processor=host.processor)


def read_hardware(system: System) -> Hardware:
    """Return what the files of a system say."""
    machine_id = system.read("/etc/machine-id").text or ""
    return Hardware(
        host=system.read("/proc/sys/kernel/hostname").text or (platform.node() if system.root == "/" else ""),
        board=board_model(system),
        processor=cpu_part(system),
        serial=_serial(system),
        adapters=tuple(sorted(_adapters(system))),
        machine_id=_digest("machine-id", machine_id) if _MACHINE_ID.match(machine_id) else None,
    )


def _serial(system: System) -> Optional[str]:
    for group in ((_TREE_SERIAL,), _DMI_SERIALS):
        serials = [text for text in (_text(system, path) for path in group) if not _NO_SERIAL.fullmatch(text.lower())]
        if serials:
            return _digest("serial", *serials)
    return None


def _adapters(system: System) -> Iterator[str]:
    """Yield the digests of permanent addresses. What is plugged in at USB moves from machine to machine."""
    for folder in system.glob("/sys/class/net/*"):
        address = _text(system, folder + "/address").lower()
        is_permanent = system.read(folder + "/addr_assign_type").text == "0"
        bus = system.real(folder + "/device")
        if bus is None or "/usb" in bus or not is_permanent or not re.match(r"([0-9a-f]{2}:){5}[0-9a-f]{2}\Z", address):
            continue
        if not int(address[:2], 16) & _LOCAL_BIT and address != "00:00:00:00:00:00":
            yield _digest("adapter", address)


def _text(system: System, path: str) -> str:
    return (system.read(path).text or "").strip(" \t\r\n\0")


def _digest(*words: str) -> str:
    return hashlib.sha256("\0".join(("vitsearch",) + words).encode("utf-8", "replace")).hexdigest()[:_DIGEST_LENGTH]
