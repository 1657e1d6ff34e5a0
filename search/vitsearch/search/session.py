"""What one ``vitsearch run`` works with."""

from __future__ import annotations

from dataclasses import dataclass

from vitsearch.devices.agent_device import DeviceGroup
from vitsearch.pipeline.progress import Progress
from vitsearch.pipeline.runner import Runner
from vitsearch.space import SearchSpace
from vitsearch.storage.driver_id import DriverId
from vitsearch.storage.ledger import Ledger
from vitsearch.study.study import Study


@dataclass(frozen=True)
class Session:
    """What was opened for one run. ``slots`` plans are trained at the same time."""

    space: SearchSpace
    study: Study
    ledger: Ledger
    runner: Runner
    device: DeviceGroup
    driver: DriverId
    slots: int
    progress: Progress
