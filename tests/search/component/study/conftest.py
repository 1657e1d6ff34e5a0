"""A study that is opened as one more run would."""

from __future__ import annotations

import pytest

from vitsearch.core.image_size import ImageSize
from vitsearch.space import SearchSpace
from vitsearch.study.sampling import PlanSpace
from vitsearch.study.study import Study


@pytest.fixture
def open_study(space, tmp_path):
    """Opens the study for the space with changes, as one more run would; all are closed at the end."""
    opened = []

    def open_(storage=None, **changes):
        value = space.to_json()
        for path, change in changes.items():
            section, _, key = path.partition("__")
            value[section] = value[section] | {key: change} if key else change
        changed = SearchSpace.from_json(value | {"storage": storage or space.storage})
        study = Study.open(changed)
        opened.append(study)
        return study, PlanSpace(
            changed, "local", lambda backbone, knob, value: None, lambda backbone: ImageSize.square(28)
        )

    yield open_
    for study in opened:
        study.close()
