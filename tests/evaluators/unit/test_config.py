import json
import re
from pathlib import Path

import pytest

from support import AGENT_HOME
from vitsearch_agent.config import AgentConfig, CanaryConfig, EmulationConfig, LimitsConfig, load
from vitsearch_agent.errors import InvalidRequest


def written(folder, content):
    (folder / "config.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return str(folder)


def test_without_a_file_the_defaults_hold(tmp_path):
    assert load(str(tmp_path)) == AgentConfig()


def test_a_section_changes_only_what_it_names(tmp_path):
    config = load(written(tmp_path, {"canary": {"every_jobs": 5}, "emulation": {"slowdown": 8}}))
    assert config.canary == CanaryConfig(every_jobs=5)
    assert config.emulation == EmulationConfig(8.0)
    assert config.limits == AgentConfig().limits


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "config.json is not JSON"),
        ("[]", "config.json: expected an object"),
        ({"canari": {}}, "unknown canari; the keys are canary, emulation"),
        ({"limits": {"quota_mb": "much"}}, "config.json.limits.quota_mb: expected a whole number from 1"),
        (
            {"runtimes": {"trtexec": {"path": "/x"}}},
            "runtimes.trtexec: unknown path; the keys are network, python, tool, writable",
        ),
    ],
)
def test_an_error_names_the_file_and_the_key(tmp_path, content, message):
    with pytest.raises(InvalidRequest, match=message.replace(".", "[.]")):
        load(written(tmp_path, content))


def test_the_readme_lists_every_limit_with_its_default():
    page = Path(AGENT_HOME, "README.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"\*\*Limits\*\*.*?\n\n(\|.*?)\n\n", page, re.DOTALL)
    for name, value in LimitsConfig()._asdict().items():
        if name in ("memory_mb", "interruptions_max"):  # these do not limit clients: not in the table
            assert name in page
        else:
            (row,) = [line for line in table.splitlines() if f"`{name}`" in line]
            assert re.search(rf"\b{value:g}\b", row.replace(",", "")), name
