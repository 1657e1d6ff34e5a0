"""What tests of studies look at."""

from vitsearch.core.figures import Metrics
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import StudyTable, TrialRows
from vitsearch.storage.sightings import Sightings

ME = DriverId.current()
METRICS = Metrics.of({"accuracy": 0.875, "cpu_ms_p50": 1.25})


def trials(study):
    """Optuna's trials by number."""
    return {trial.number: trial for trial in study.as_optuna()}


def only(study):
    """The only trial."""
    (trial,) = trials(study).values()
    return trial


def without_patience(study):
    """The study of a driver that takes silent trials over as soon as it sees them."""
    study._view._silent = Sightings(0.0)
    return study


def stored_study(engine, name):
    """The trials and attributes of a new study of two objectives."""
    studies = StudyTable(engine)
    studies.add(name, {"accuracy": "maximize", "ms": "minimize"})
    return TrialRows(engine, studies.find(name).id)
