"""Which device this is: a random id for each hardware on which a state folder was used.

    state/device.json        [{"device_id", "kind", "hardware"}, ...], the one in use last
    state/emulated.json      the same of an emulated device

A folder that was copied to other hardware, or whose disk was moved there, is another device: its measurements must not
be taken for those of the first one, nor a finished job of its queue for one of this device. Back on the first hardware
it is the first device again.
"""

import contextlib
import json
import logging
import os
import secrets
from typing import Any, Dict, List, Mapping, NamedTuple

from vitsearch_agent.base import json_reader
from vitsearch_agent.base.atomic_files import write_json
from vitsearch_agent.base.plain_files import remove_tree
from vitsearch_agent.errors import InvalidRequest
from vitsearch_agent.wire.hardware import UNKNOWN_HARDWARE, Hardware

logger = logging.getLogger(__name__)

OF_THE_HARDWARE = ("canary.json", "references.json", "runtimes.json")
CACHE = "cache"
"""What the agent has learnt about the hardware, in its state folder: files, and the folder of compiled models."""


PHYSICAL, EMULATED = "physical", "emulated"


class DeviceIdentity(NamedTuple):
    """`device_id` is random and made at the first start on this hardware; `kind` is `physical` or `emulated`."""

    device_id: str
    kind: str
    hardware: Hardware = UNKNOWN_HARDWARE

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), hardware=self.hardware.to_json())

    @classmethod
    def from_json(cls, value: Any, where: str = "identity") -> "DeviceIdentity":
        return cls(**json_reader.read_object(value, _IDENTITY, where))


_IDENTITY: Mapping[str, json_reader.Reader] = {
    "device_id": json_reader.text,
    "kind": json_reader.text,
    "hardware": Hardware.from_json,
}


def device_identity(state: str, hardware: Hardware, emulated: bool = False) -> DeviceIdentity:
    """Return the identity that a state folder has on this hardware; the first call there creates it.

    Emulated and physical measurements must not mix, so an emulated device has its own id. Raises
    InvalidRequest when the stored identities cannot be read.
    """
    path = os.path.join(state, "emulated.json" if emulated else "device.json")
    stored = _read(path)
    same = [identity for identity in stored if not identity.hardware.differences(hardware)]
    if same:
        # Some marks only root may read: those that were seen once stay.
        current = same[-1]._replace(hardware=hardware.completed_by(same[-1].hardware))
    else:
        new = secrets.token_hex(16)
        identifier, kind = ("emu-" + new, EMULATED) if emulated else (new, PHYSICAL)
        current = DeviceIdentity(identifier, kind, hardware)
    if stored and (not same or same[-1] is not stored[-1]):
        _forget_other_hardware(state, stored[-1], current)
    kept = [identity for identity in stored if identity.device_id != current.device_id] + [current]
    if kept != stored:
        write_json(path, [identity.to_json() for identity in kept])
    return current


def _read(path: str) -> List[DeviceIdentity]:
    try:
        with open(path) as stream:
            identities = json_reader.sequence(DeviceIdentity.from_json)(json.load(stream), "identities")
        if not identities:
            raise InvalidRequest("the list of identities is empty")
        return list(identities)
    except FileNotFoundError:
        return []
    except (OSError, ValueError, InvalidRequest) as error:
        raise InvalidRequest(
            f"{path} cannot be read ({error}): restore it, or remove it and every study treats the device as a new one"
        ) from error


def _forget_other_hardware(state: str, before: DeviceIdentity, now: DeviceIdentity) -> None:
    """Remove what was learnt on the hardware before: it holds for no other."""
    logger.warning(
        "%s was used on other hardware (%s, host %s): here it is the device %s, not %s",
        state,
        before.hardware.describe(),
        before.hardware.host,
        now.device_id,
        before.device_id,
    )
    for name in OF_THE_HARDWARE:
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(state, name))
    remove_tree(os.path.join(state, CACHE))
