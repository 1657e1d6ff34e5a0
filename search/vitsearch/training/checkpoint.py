"""What a training is after an epoch, in a file, so that a killed one trains only the rest, with the same result."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch

from vitsearch.storage.atomic_files import replacing

DIGEST_BYTES = hashlib.sha256().digest_size

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A file of tensors and plain values behind their digest. A crash leaves that of the epoch before."""

    path: Path

    def save(self, state: dict[str, Any]) -> None:
        with replacing(self.path) as file:
            file.write(bytes(DIGEST_BYTES))
            hashed = _Hashed(file)
            torch.save(state, cast(IO[bytes], hashed))  # it is written only
            file.seek(0)
            file.write(hashed.sha256.digest())

    def load(self) -> dict[str, Any] | None:
        """None where there is none, and, with a warning, where it is damaged."""
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return None
        with file:
            stored = file.read(DIGEST_BYTES)
            if hashlib.file_digest(file, "sha256").digest() != stored:
                logger.warning("%s is damaged: the training begins again", self.path)
                return None
            file.seek(DIGEST_BYTES)
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
            return state


class _Hashed:
    """Writes to a file and hashes what it writes."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sha256.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
