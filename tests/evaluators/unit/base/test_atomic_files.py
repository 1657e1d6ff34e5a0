import json
import os

import pytest

from vitsearch_evaluators.base.atomic_files import write_json


def test_a_value_that_cannot_be_written_leaves_the_old_one(tmp_path):
    path = tmp_path / "state.json"
    write_json(str(path), {"jobs": [1]})
    with pytest.raises(TypeError):
        write_json(str(path), {"jobs": [object()]})
    assert json.loads(path.read_text()) == {"jobs": [1]}
    write_json(str(path), {"jobs": []})
    assert os.listdir(tmp_path) == ["state.json"], "and what was left of it is gone with the next"
