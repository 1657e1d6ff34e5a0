"""Trials of a search as trials of Ray Tune, for teams whose pipelines stand on it. Needs the extra `tune`.

    from ray import tune
    from vitsearch.tune import search_space, trainable

    tune.Tuner(trainable("space.yaml"), param_space=search_space("space.yaml"))

Tune decides which plans are tried and how far; each of its trials works as a run of the study does: stages are looked
up in the database first, devices are those of the space file, results are in the study.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from vitsearch.errors import ResourceError
from vitsearch.space import SearchSpace

__all__ = ["define_by_run", "search_space", "trainable"]
Space = str | os.PathLike[str] | SearchSpace
"""A space file, or what `vitsearch.load_space` has made of one."""


def trainable(space: Space) -> type:
    """Make the class to give to `tune.Tuner`. Each of its steps is a rung: refit, fine-tunes, then the confirmed model.

    Args:
        space: A space file, or what `load_space` returned. Its paths are relative to the folder of this process, on
            every node.

    Returns:
        A subclass of `ray.tune.Trainable`.

    Raises:
        SpaceError: The file is not valid; lists every problem.
        ResourceError: Ray Tune, or what writes files of the runtimes, is missing.
    """
    _require_tune()
    from vitsearch.search.plan_space import lacking  # timm and torch: only for those who search
    from vitsearch.tune.actor import trainable_of

    loaded = _loaded(space)
    if missing := lacking(loaded):
        raise ResourceError("; ".join(missing))
    return trainable_of(loaded, os.getcwd())


def search_space(space: Space) -> dict[str, Any]:
    """Turn the knobs of a space file into the `param_space` of a tuner.

    Args:
        space: A space file, or what `load_space` returned.

    Returns:
        By knob, what draws its value at random from those that the others leave it; it draws None where they leave
        none. Replace one by a value or a `tune.grid_search` of some of its values.

    Raises:
        SpaceError: The file is not valid; lists every problem.
        ResourceError: Ray Tune is missing.
    """
    tune = _require_tune()
    from vitsearch.tune.knobs import ConfigSpace  # timm and torch: only for those who search

    knobs = ConfigSpace(_loaded(space))
    return {name: tune.sample_from(partial(knobs.draw, name)) for name in knobs.choices}


def define_by_run(space: Space) -> Callable[[Any], None]:
    """Turn the knobs of a space file into the `space` of `OptunaSearch`.

    Args:
        space: A space file, or what `load_space` returned.

    Returns:
        A function that asks a trial of Optuna for the knobs that its plan has, and for no others.

    Raises:
        SpaceError: The file is not valid; lists every problem.
        ResourceError: Ray Tune is missing.
    """
    _require_tune()
    from vitsearch.tune.knobs import ConfigSpace  # timm and torch: only for those who search

    return ConfigSpace(_loaded(space)).suggest


def _loaded(space: Space) -> SearchSpace:
    from vitsearch.api import load_space  # timm and torch: only for those who search

    return space if isinstance(space, SearchSpace) else load_space(space)


def _require_tune() -> Any:
    try:
        from ray import tune  # an extra: only for those who use it
    except ImportError as error:
        raise ResourceError("Ray Tune is not installed; run: pip install 'vitsearch[tune]'") from error
    return tune
