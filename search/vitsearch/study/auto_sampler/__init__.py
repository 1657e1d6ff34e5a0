"""A multi-objective sampler for Optuna: few expensive trials, conditional spaces, objectives that are partly known.

It knows nothing of vitsearch and works with any Optuna study. It imports scipy, so import it only where it is used.
"""

from vitsearch.study.auto_sampler.observations import Evidence, ObjectiveSpec
from vitsearch.study.auto_sampler.sampler import EXPECTED_GAIN, AutoSampler

__all__ = ["EXPECTED_GAIN", "AutoSampler", "Evidence", "ObjectiveSpec"]
