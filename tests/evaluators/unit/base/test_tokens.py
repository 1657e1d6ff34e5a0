import os
import stat

import pytest

from vitsearch_evaluators.base import tokens
from vitsearch_evaluators.errors import InvalidRequest


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "token")
    tokens.write_tokens(path, (tokens.new_token(),))
    return path


def admits(file, *asked):
    return [file.admits(token.encode()) for token in asked]


def test_a_token_has_256_bits_and_is_its_owner_s_alone(path):
    (token,) = tokens.read_tokens(path)
    assert len(bytes.fromhex(token)) == 32
    assert token != tokens.new_token()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize("content", ["short", "has space " * 9, "", "\n\n", "a" * 31, "\u00e9" * 40])
def test_poor_tokens_are_refused_and_never_shown(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content.encode())
    with pytest.raises(InvalidRequest, match="at least 32") as caught:
        tokens.read_tokens(str(path))
    assert not content.strip() or content.strip() not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidRequest, match="nowhere"):
        tokens.TokenFile(str(tmp_path / "nowhere"))


def test_only_whole_tokens_are_let_in(path):
    (token,) = tokens.read_tokens(path)
    file = tokens.TokenFile(path)
    assert admits(file, token) == [True]
    assert admits(file, token[:-1], token + "0", "", "\u00e9" * 64, token.upper() + " ") == [False] * 5


def test_a_rotated_token_is_taken_without_a_restart(path):
    file = tokens.TokenFile(path)
    (old,) = tokens.read_tokens(path)
    new = tokens.rotate(path, keep_old=False)
    assert admits(file, old, new) == [False, True]


def test_a_token_that_is_rotated_while_the_agent_starts_is_taken(path, monkeypatch):
    read, rotated = tokens.read_tokens, []

    def rotate_behind(path):
        found = read(path)
        monkeypatch.undo()
        rotated.append(tokens.rotate(path, keep_old=False))
        return found

    monkeypatch.setattr(tokens, "read_tokens", rotate_behind)
    assert admits(tokens.TokenFile(path), *rotated) == [True]


def test_the_old_one_may_stay_for_one_rotation(path):
    file = tokens.TokenFile(path)
    (oldest,) = tokens.read_tokens(path)
    old = tokens.rotate(path, keep_old=True)
    assert admits(file, oldest, old) == [True, True]
    new = tokens.rotate(path, keep_old=True)
    assert admits(file, oldest, old, new) == [False, True, True]


@pytest.mark.parametrize("damage", [os.remove, lambda path: os.truncate(path, 10)])
def test_a_file_that_went_wrong_lets_nobody_in_until_it_is_right(path, damage):
    file = tokens.TokenFile(path)
    (token,) = tokens.read_tokens(path)
    damage(path)
    assert admits(file, token) == [False]
    tokens.write_tokens(path, (token,))
    assert admits(file, token) == [True]
