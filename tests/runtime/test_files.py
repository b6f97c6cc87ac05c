"""Files and folders that x2i publishes have the modes that the user's umask allows, like any other program's."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from x2i.runtime.bundle.writer import new_folder
from x2i.runtime.files.writing import apply_umask, save_whole


@pytest.fixture(params=[0o022, 0o077, 0o027], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    assert os.umask(before) == request.param, "reading the umask changed it"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_file_written_whole(umask: int, tmp_path: Path) -> None:
    save_whole(tmp_path / "picture.png", lambda stream: None)
    assert mode(tmp_path / "picture.png") == 0o666 & ~umask


def test_a_folder_written_whole(umask: int, tmp_path: Path) -> None:
    with new_folder(tmp_path / "bundle") as work:
        assert mode(work) == 0o700, "nobody else reads what is half written"
        (work / "graph.onnx").write_bytes(b"")
    assert mode(tmp_path / "bundle") == 0o777 & ~umask
    assert mode(tmp_path / "bundle" / "graph.onnx") == 0o666 & ~umask


def test_a_plain_file_and_folder_are_the_measure(umask: int, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain.txt").touch()
    (tmp_path / "own").mkdir(0o700)
    (tmp_path / "own.txt").touch(0o600)
    for path in (tmp_path / "own", tmp_path / "own.txt"):
        apply_umask(path)
    assert mode(tmp_path / "own") == mode(tmp_path / "plain")
    assert mode(tmp_path / "own.txt") == mode(tmp_path / "plain.txt")
