"""The shapes at which a model runs: what the model fixes, what the job gives, and the batch.

Only an open first dimension is the batch. Any other open dimension needs a size from the job, because no size is right
for every model: a detector at 1 x 1 pixels is a hundred times faster than at 640 x 640.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from vitsearch_evaluators.artifacts.base import Declared, refusal
from vitsearch_evaluators.wire.job_spec import Shapes

_EXAMPLE = 224


class RunShapes(NamedTuple):
    """The number of images in a run, and the shape of each input (None: unknown; empty: the model has no inputs)."""

    batch: int
    shapes: Optional[Shapes]


def run_shapes(declared: Sequence[Declared], batch: Optional[int], given: Shapes) -> RunShapes:
    """Return the shape of every input, for `batch` images (None: the model's own batch, 1 if that is open).

    The batch is the first dimension of the first input that has dimensions; an open first dimension of another input
    takes it too. Raises MeasurementFailed `incompatible_artifact` with everything that does not fit.
    """
    first = next((one for one in declared if one.dims is None or len(one.dims) > 0), None)
    own = None if first is None else _first_size(first, given)
    used = own or batch or 1
    problems = _problems_of_given(declared, given)
    if first is None and batch not in (None, 1):
        problems.append(f"the model has no input with a batch, but batch {batch} was requested")
    elif first is not None and own not in (None, batch) and batch is not None:
        fixed = "--shape gives" if first.name in given else "the model fixes"
        problems.append(f"{fixed} batch {own} ({_text(first)}), but batch {batch} was requested")
    shapes: Dict[str, Tuple[int, ...]] = {}
    unsized: List[Declared] = []
    for one in declared:
        sizes = given.get(one.name, _own_sizes(one, used))
        if sizes is None:
            unsized.append(one)
        else:
            shapes[one.name] = tuple(sizes)
    if unsized:
        problems.append(_needed(unsized, used, first))
    if problems:
        raise refusal("; ".join(problems))
    return RunShapes(used, shapes)


def _first_size(one: Declared, given: Shapes) -> Optional[int]:
    """Return the first size of an input, None if it is open."""
    dims = given.get(one.name, one.dims)
    return dims[0] if dims and _is_fixed(dims[0]) else None


def _own_sizes(one: Declared, batch: int) -> Optional[Tuple[int, ...]]:
    """Return the sizes of an input that needs no other size than the batch, None for any other input."""
    if one.dims is None or not all(map(_is_fixed, one.dims[1:])):
        return None
    return tuple(size if _is_fixed(size) else batch for size in one.dims)


def _is_fixed(size: Any) -> bool:
    return isinstance(size, int) and size > 0


def _problems_of_given(declared: Sequence[Declared], given: Shapes) -> List[str]:
    """Return why the shapes of the job do not fit the model's inputs."""
    problems = []
    known = {one.name: one for one in declared}
    for name, sizes in given.items():
        if name not in known:
            problems.append(_unknown(name, list(known)))
            continue
        dims = known[name].dims
        if dims is not None and len(dims) != len(sizes):
            problems.append(f"{_flag(name, sizes)} has {len(sizes)} sizes, but {_text(known[name])} has {len(dims)}")
        elif dims is not None and any(_is_fixed(own) and own != size for own, size in zip(dims, sizes)):
            problems.append(f"{_flag(name, sizes)} differs from a size that the model fixes: {_text(known[name])}")
    return problems


def _unknown(name: str, known: List[str]) -> str:
    if not known:
        return f"--shape {name}: the model has no inputs"
    import difflib  # only for an error

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"--shape {name}: the model has no such input; {hint}its inputs are {', '.join(map(repr, known))}"


def _needed(unsized: Sequence[Declared], batch: int, first: Optional[Declared]) -> str:
    """Return the sentence with the flags to give."""
    flags = " ".join(_flag(one.name, _example(one, batch, first)) for one in unsized)
    inputs = " and ".join(map(_text, unsized))
    return f"only an open first dimension is the batch, any other needs a size: {inputs}; give, for example, {flags}"


def _example(one: Declared, batch: int, first: Optional[Declared]) -> List[int]:
    """Return sizes for an input; a dimension with the name of the batch is as large as the batch."""
    dims = [None, 3, None, None] if one.dims is None else one.dims
    name = first.dims[0] if first is not None and first.dims else None
    as_batch = [index == 0 or (isinstance(size, str) and size == name) for index, size in enumerate(dims)]
    return [size if _is_fixed(size) else batch if same else _EXAMPLE for size, same in zip(dims, as_batch)]


def _text(one: Declared) -> str:
    if one.dims is None:
        return f"input {one.name!r} of unknown shape"
    return f"input {one.name!r} [{', '.join(str(size) if _is_fixed(size) else _open(size) for size in one.dims)}]"


def _open(size: Any) -> str:
    return size if isinstance(size, str) and size else "?"


def _flag(name: str, sizes: Sequence[int]) -> str:
    import shlex  # only for an error

    return f"--shape {shlex.quote(name + '=' + ','.join(map(str, sizes)))}"
