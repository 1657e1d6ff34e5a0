"""Any file either loads or is refused with a SpaceError, never with another exception."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support import REPOSITORY, SPACE_FILES
from vitsearch.errors import SpaceError
from vitsearch.space import SearchSpace, load
from vitsearch.space.value_types import TAGS

SPACES = Path(REPOSITORY, "spaces")
WRONG = sorted(Path(SPACE_FILES, "wrong").glob("*.yaml"))
TEXTS = [path.read_text() for path in (SPACES / "quickstart.yaml", *WRONG)]
KEYS = sorted({word for text in TEXTS for word in text.replace(":", " ").split() if word.isidentifier()} | TAGS)
relaxed = settings(
    max_examples=200,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)

scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), st.sampled_from(KEYS))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)


def loads_or_is_refused(path, data, overrides=()):
    path.write_bytes(data)
    try:
        space = load(path, overrides).space
    except SpaceError as error:
        str(error).encode()  # can be printed, whatever is in the file
        return
    assert SearchSpace.from_json(space.to_json()).to_json() == space.to_json()


@relaxed
@given(data=st.data())
def test_mutated_text(tmp_path, data):
    text = data.draw(st.sampled_from(TEXTS))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = (
            text[:start]
            + data.draw(st.sampled_from(list("[]{}:,-#&*!|>'\"%@\t\n 0e.~")) | st.text(max_size=3))
            + text[end:]
        )
    loads_or_is_refused(tmp_path / "s.yaml", text.encode(errors="surrogatepass"))


@relaxed
@given(data=st.data())
@pytest.mark.long
def test_mutated_values(tmp_path, data):
    tree = yaml.safe_load(TEXTS[0])
    for _ in range(data.draw(st.integers(1, 3))):
        section = tree
        while section:
            key = data.draw(st.sampled_from(sorted(section) + ["other"]))
            inner = section.get(key)
            if isinstance(inner, dict) and data.draw(st.booleans()):
                section = inner
                continue
            section[key] = data.draw(values)
            break
    loads_or_is_refused(tmp_path / "s.yaml", yaml.safe_dump(tree, allow_unicode=True).encode(errors="surrogatepass"))


@relaxed
@given(overrides=st.lists(st.builds("{}={}".format, st.sampled_from(KEYS) | st.text(max_size=6), values), max_size=3))
@pytest.mark.long
def test_any_override(tmp_path, overrides):
    loads_or_is_refused(tmp_path / "s.yaml", TEXTS[0].encode(), overrides)


@pytest.mark.long
@pytest.mark.parametrize("path", ["search.budget", "study", "storage", "devices", "task.data.root"])
@relaxed
@given(value=values)
def test_any_value_of_keys_with_rules_of_their_own(tmp_path, path, value):
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True)
    loads_or_is_refused(tmp_path / "s.yaml", TEXTS[0].encode(), [f"{path}={text}"])
