"""What of a model's outputs an outputs job keeps: as they are, or the position of the largest."""

from typing import Mapping, NamedTuple, Optional, Tuple


class Reduction(NamedTuple):
    """A reduction that every agent knows.

    `dtype` is that of what it keeps, as NumPy writes it. An argmax is over the second axis, that of the classes, of
    which there may be `classes_max`. `reserved` takes the place of an argmax among numbers that are not all finite.
    Both are None where outputs stay as they are.
    """

    dtype: str
    classes_max: Optional[int] = None
    reserved: Optional[int] = None

    @property
    def itemsize(self) -> int:
        """The bytes of one number."""
        return int(self.dtype[2:])

    def item_shape(self, outputs: Tuple[int, ...]) -> Tuple[int, ...]:
        """Return the shape of what is kept of one image, for `outputs` of one image."""
        return outputs if self.classes_max is None else outputs[1:]


REDUCTIONS: Mapping[str, Reduction] = {
    "none": Reduction("<f4"),
    "argmax_uint8": Reduction("|u1", 255, 255),
    "argmax_uint16": Reduction("<u2", 65535, 65535),
}
"""Name -> what it does. A type holds one class less than it has values: its largest value is reserved."""
