"""Small files that are there as a whole or not at all, whenever the power goes."""

import json
import os
from typing import Any


def write_json(path: str, value: Any) -> None:
    """Put `value` at `path` in one step, on the disk when this returns. One writer at a time for each path."""
    part = path + ".part"
    with open(part, "w") as stream:
        json.dump(value, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.rename(part, path)
