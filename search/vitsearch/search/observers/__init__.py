"""What a run reports to beside its progress view.

    base.py            Observer (the protocol), RunObserver, what an observer gets at the end
    observe.py         what a run reports to: opened before it, closed after it
    log_file.py        its log as JSON lines
    traces.py          OpenTelemetry spans
    prometheus.py      metrics over HTTP: metrics_server.py, host_names.py
    mlflow_runs.py     trials, front and bundles as runs of MLflow
    progress_group.py  several observers as one

Importing this package imports neither prometheus_client nor mlflow. Other packages add observers through the
entry-point group `vitsearch.observers` (`name = "module:Class"`); their conformance test is
`vitsearch.testing.observers.ObserverTests`.
"""

from __future__ import annotations

from vitsearch.registry import Registry
from vitsearch.search.observers.base import BundleObserver, FinalFront, Observer, RunObserver, ShippedModel, SilentRun

__all__ = ["OBSERVERS", "BundleObserver", "FinalFront", "Observer", "RunObserver", "ShippedModel", "SilentRun"]

OBSERVERS: Registry[type[Observer]] = Registry(
    "observer",
    {
        "mlflow": "vitsearch.search.observers.mlflow_runs:Mlflow",
        "prometheus": "vitsearch.search.observers.prometheus:Prometheus",
    },
    "vitsearch.observers",
)
