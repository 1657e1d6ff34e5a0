"""What a device says of its hardware, by which two devices are told apart."""

from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple

from vitsearch_agent.base import json_reader

SERIAL, ADAPTERS, MACHINE_ID = "serial number", "network adapters", "machine-id"


class Hardware(NamedTuple):
    """`host`, `board` and `processor` are for people. `serial`, `adapters` (those that are built in) and `machine_id`
    are digests: the values themselves are private. None, or an empty tuple, where the device does not say it.

    `machine_id` is that of the operating system. It moves with a disk, so it counts only where nothing better is known.
    """

    host: str
    board: Optional[str] = None
    processor: Optional[str] = None
    serial: Optional[str] = None
    adapters: Tuple[str, ...] = ()
    machine_id: Optional[str] = None

    def differences(self, other: "Hardware") -> Tuple[str, ...]:
        """Return what shows that this is other hardware; empty if nothing does.

        The first mark that both have decides: the serial number, else a common network adapter, else the machine-id.
        The processor must be equal in any case, and the board unless its serial number is. The host's name, the
        kernel and everything else that may change on one device do not count.
        """
        marks = []
        if self.processor and other.processor and self.processor != other.processor:
            marks.append("processor")
        if self.serial and other.serial:
            return tuple(marks + [SERIAL] * (self.serial != other.serial))
        if self.board and other.board and self.board != other.board:
            marks.append("board")
        if self.adapters and other.adapters:
            return tuple(marks + [ADAPTERS] * set(self.adapters).isdisjoint(other.adapters))
        if self.machine_id and other.machine_id and self.machine_id != other.machine_id:
            marks.append(MACHINE_ID)
        return tuple(marks)

    def completed_by(self, other: "Hardware") -> "Hardware":
        """Return what this one says, and of the other what it does not say."""
        return Hardware(
            self.host or other.host,
            self.board or other.board,
            self.processor or other.processor,
            self.serial or other.serial,
            self.adapters or other.adapters,
            self.machine_id or other.machine_id,
        )

    def describe(self) -> str:
        """Return the board and the processor in words."""
        return ", ".join(filter(None, (self.board, self.processor))) or "unknown hardware"

    def to_json(self) -> Dict[str, Any]:
        return dict(self._asdict(), adapters=list(self.adapters))

    @classmethod
    def from_json(cls, value: Any, where: str = "hardware") -> "Hardware":
        return cls(**json_reader.read_object(value, _HARDWARE, where))


_HARDWARE: Mapping[str, json_reader.Reader] = {
    "host": json_reader.text,
    "board": json_reader.optional(json_reader.text),
    "processor": json_reader.optional(json_reader.text),
    "serial": json_reader.optional(json_reader.text),
    "adapters": json_reader.sequence(json_reader.text, 256),
    "machine_id": json_reader.optional(json_reader.text),
}

UNKNOWN_HARDWARE = Hardware("")
