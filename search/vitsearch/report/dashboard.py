"""optuna-dashboard on a study, where it is installed."""

from __future__ import annotations

from collections.abc import Callable

from vitsearch.errors import ResourceError
from vitsearch.report.serve import HOST, listener_on
from vitsearch.study.lookup import opened


def dashboard(study_argument: str, port: int, ready: Callable[[str], None]) -> None:
    """Serve the study as it is now in optuna-dashboard on this machine until Ctrl-C; `ready` gets the address.

    Raises `ResourceError` where it is not installed, and for a port that is taken.
    """
    with opened(study_argument) as (study, _):
        copy = study.optuna_storage()
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise ResourceError(
            "optuna-dashboard is not installed; install it with: pip install optuna-dashboard"
        ) from None
    with listener_on(port) as free:
        port = free.getsockname()[1]
    ready(f"http://{HOST}:{port}/")
    run_server(copy, host=HOST, port=port)
