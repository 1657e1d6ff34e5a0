"""What tests of studies look at."""

from vitsearch.core.figures import Metrics
from vitsearch.storage.driver_id import DriverId

ME = DriverId.current()
METRICS = Metrics.of({"accuracy": 0.875, "cpu_ms_p50": 1.25})


def trials(study):
    """Optuna's trials by number."""
    return {trial.number: trial for trial in study._study.get_trials()}


def only(study):
    """The only trial."""
    (trial,) = trials(study).values()
    return trial
