"""The shapes at which a model runs: what the model fixes, what the job gives, and the batch.

Only an open first dimension is the batch. Any other open dimension needs a size from the job, because no size is right
for every model: a detector at 1 x 1 pixels is a hundred times faster than at 640 x 640.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from vitsearch_agent.artifacts.facts import Declared, refusal
from vitsearch_agent.wire.measure_protocol import Shapes

_EXAMPLE = 224


class RunShapes(NamedTuple):
    """The number of images in a run, and the shape of each input (None: unknown; empty: the model has no inputs)."""

    batch: int
    shapes: Optional[Shapes]


def run_shapes(declared: Sequence[Declared], batch: Optional[int], requested: Shapes) -> RunShapes:
    """Return the shape of every input, for `batch` images (None: the model's own batch, 1 if that is open).

    The batch is the first dimension of the first input that has dimensions; an open first dimension of another input
    takes it too. Raises MeasurementFailed `incompatible_artifact` with everything that does not fit.
    """
    first = next((item for item in declared if item.dims is None or len(item.dims) > 0), None)
    own = None if first is None else _first_size(first, requested)
    used = own or batch or 1
    problems = _problems_of_requested(declared, requested)
    if first is None and batch not in (None, 1):
        problems.append(f"the model has no input with a batch, but batch {batch} was requested")
    elif first is not None and own not in (None, batch) and batch is not None:
        fixed = "--shape gives" if first.name in requested else "the model fixes"
        problems.append(f"{fixed} batch {own} ({_text(first)}), but batch {batch} was requested")
    shapes: Dict[str, Tuple[int, ...]] = {}
    unsized: List[Declared] = []
    for item in declared:
        sizes = requested.get(item.name, _own_sizes(item, used))
        if sizes is None:
            unsized.append(item)
        else:
            shapes[item.name] = tuple(sizes)
    if unsized:
        problems.append(_needed(unsized, used, first))
    if problems:
        raise refusal("; ".join(problems))
    return RunShapes(used, shapes)


def _first_size(declared: Declared, requested: Shapes) -> Optional[int]:
    """Return the first size of an input, None if it is open."""
    dims = requested.get(declared.name, declared.dims)
    return dims[0] if dims and _is_fixed(dims[0]) else None


def _own_sizes(declared: Declared, batch: int) -> Optional[Tuple[int, ...]]:
    """Return the sizes of an input that needs no other size than the batch, None for any other input."""
    if declared.dims is None or not all(map(_is_fixed, declared.dims[1:])):
        return None
    return tuple(size if _is_fixed(size) else batch for size in declared.dims)


def _is_fixed(size: Any) -> bool:
    return isinstance(size, int) and size > 0


def _problems_of_requested(declared: Sequence[Declared], requested: Shapes) -> List[str]:
    """Return why the shapes of the job do not fit the model's inputs."""
    problems = []
    inputs = {item.name: item for item in declared}
    for name, sizes in requested.items():
        if name not in inputs:
            problems.append(_unknown(name, list(inputs)))
            continue
        dims = inputs[name].dims
        if dims is not None and len(dims) != len(sizes):
            problems.append(f"{_flag(name, sizes)} has {len(sizes)} sizes, but {_text(inputs[name])} has {len(dims)}")
        elif dims is not None and any(_is_fixed(own) and own != size for own, size in zip(dims, sizes)):
            problems.append(f"{_flag(name, sizes)} differs from a size that the model fixes: {_text(inputs[name])}")
    return problems


def _unknown(name: str, inputs: List[str]) -> str:
    if not inputs:
        return f"--shape {name}: the model has no inputs"
    import difflib  # only for an error

    near = difflib.get_close_matches(name, inputs, n=1, cutoff=0.4)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return f"--shape {name}: the model has no such input; {hint}its inputs are {', '.join(map(repr, inputs))}"


def _needed(unsized: Sequence[Declared], batch: int, first: Optional[Declared]) -> str:
    """Return the sentence with the flags to give."""
    flags = " ".join(_flag(item.name, _example(item, batch, first)) for item in unsized)
    inputs = " and ".join(map(_text, unsized))
    return f"only an open first dimension is the batch, any other needs a size: {inputs}; give, for example, {flags}"


def _example(declared: Declared, batch: int, first: Optional[Declared]) -> List[int]:
    """Return sizes for an input; a dimension with the name of the batch is as large as the batch."""
    dims = [None, 3, None, None] if declared.dims is None else declared.dims
    name = first.dims[0] if first is not None and first.dims else None
    as_batch = [index == 0 or (isinstance(size, str) and size == name) for index, size in enumerate(dims)]
    return [size if _is_fixed(size) else batch if same else _EXAMPLE for size, same in zip(dims, as_batch)]


def _text(declared: Declared) -> str:
    if declared.dims is None:
        return f"input {declared.name!r} of unknown shape"
    sizes = ", ".join(str(size) if _is_fixed(size) else _open(size) for size in declared.dims)
    return f"input {declared.name!r} [{sizes}]"


def _open(size: Any) -> str:
    return size if isinstance(size, str) and size else "?"


def _flag(name: str, sizes: Sequence[int]) -> str:
    import shlex  # only for an error

    return f"--shape {shlex.quote(name + '=' + ','.join(map(str, sizes)))}"
