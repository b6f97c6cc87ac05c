"""The cache of what tests only read: when it makes anew, what it notices, what it keeps."""

from pathlib import Path

import pytest

from tests import made_once as cache
from tests.made_once import changed_entries, made_once


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where each thing was made, in a cache of its own."""
    monkeypatch.setattr(cache, "CACHE", tmp_path / "cache")
    monkeypatch.setattr(cache, "HANDED_OUT", {})
    monkeypatch.setattr(cache, "digest_of", cache.digest_of.__wrapped__)
    return []


def toy(made: list[Path], *reads: Path) -> Path:
    def make(out: Path) -> None:
        made.append(out)
        out.mkdir()
        (out / "file").write_text("what was made", "utf-8")

    return made_once("toy", make, reads)


def test_it_is_made_once(made: list[Path]) -> None:
    assert toy(made) == toy(made) == made[0] and len(made) == 1 and not changed_entries()


def test_what_it_is_made_of_decides(made: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    for text in ("one", "two", "two"):
        source.write_text(text, "utf-8")
        toy(made, source)
    assert len(set(made)) == len(made) == 2


def test_a_change_is_noticed_and_mended(made: list[Path]) -> None:
    (toy(made) / "file").write_text("what a test wrote", "utf-8")
    assert changed_entries() == [made[0].parent.name]
    assert (toy(made) / "file").read_text("utf-8") == "what was made" and not changed_entries()


def test_a_new_file_is_noticed(made: list[Path]) -> None:
    (toy(made) / "more").touch()
    assert changed_entries()


def test_what_failed_is_made_again(made: list[Path]) -> None:
    def half(out: Path) -> None:
        made.append(out)
        out.mkdir()
        raise OSError("the disk is full")

    for _ in range(2):
        with pytest.raises(OSError, match="full"):
            made_once("half", half)
    assert len(made) == 2


def test_old_entries_go(made: list[Path], tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(cache.NEWEST + 2):
        source.write_text(str(number), "utf-8")
        toy(made, source)
    assert [path.exists() for path in made] == [False, False, *[True] * cache.NEWEST]
