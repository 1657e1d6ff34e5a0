import os
import stat

import pytest

from vitsearch_agent.base import tokens
from vitsearch_agent.errors import InvalidRequest


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "token")
    tokens.write_tokens(path, (tokens.new_token(),))
    return path


def admits(file, *values):
    return [file.admits(token.encode()) for token in values]


def test_a_token_has_256_bits_and_its_file_mode_0600(path):
    (token,) = tokens.read_tokens(path)
    assert len(bytes.fromhex(token)) == 32
    assert token != tokens.new_token()
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


@pytest.mark.parametrize("content", ["short", "has space " * 9, "", "\n\n", "a" * 31, "\u00e9" * 40])
def test_invalid_tokens_are_refused_without_being_shown(tmp_path, content):
    path = tmp_path / "token"
    path.write_bytes(content.encode())
    with pytest.raises(InvalidRequest, match="at least 32") as caught:
        tokens.read_tokens(str(path))
    assert not content.strip() or content.strip() not in str(caught.value)


def test_an_error_names_a_missing_token_file(tmp_path):
    with pytest.raises(InvalidRequest, match="nowhere"):
        tokens.TokenFile(str(tmp_path / "nowhere"))


def test_only_exact_tokens_are_valid(path):
    (token,) = tokens.read_tokens(path)
    file = tokens.TokenFile(path)
    assert admits(file, token) == [True]
    assert admits(file, token[:-1], token + "0", "", "\u00e9" * 64, token.upper() + " ") == [False] * 5


def test_a_rotated_token_is_valid_without_a_restart(path):
    file = tokens.TokenFile(path)
    (old,) = tokens.read_tokens(path)
    new = tokens.rotate(path, keep_old=False)
    assert admits(file, old, new) == [False, True]


def test_a_token_rotated_during_the_start_is_valid(path, monkeypatch):
    read, rotated = tokens.read_tokens, []

    def rotate_behind(path):
        content = read(path)
        monkeypatch.undo()
        rotated.append(tokens.rotate(path, keep_old=False))
        return content

    monkeypatch.setattr(tokens, "read_tokens", rotate_behind)
    assert admits(tokens.TokenFile(path), *rotated) == [True]


def test_keep_old_keeps_one_older_token_valid(path):
    file = tokens.TokenFile(path)
    (oldest,) = tokens.read_tokens(path)
    old = tokens.rotate(path, keep_old=True)
    assert admits(file, oldest, old) == [True, True]
    new = tokens.rotate(path, keep_old=True)
    assert admits(file, oldest, old, new) == [False, True, True]


@pytest.mark.parametrize("damage", [os.remove, lambda path: os.truncate(path, 10)])
def test_a_damaged_token_file_makes_all_tokens_invalid_until_it_is_repaired(path, damage):
    file = tokens.TokenFile(path)
    (token,) = tokens.read_tokens(path)
    damage(path)
    assert admits(file, token) == [False]
    tokens.write_tokens(path, (token,))
    assert admits(file, token) == [True]
