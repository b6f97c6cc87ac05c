"""What a command writes: over nothing that is read, through a link, with the user's umask, all or none; and what killed
workers left behind is swept."""

import errno
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from PIL import Image
from x2i.runtime import InputError
from x2i.runtime.bundle.writer import new_folder
from x2i.runtime.cli import main
from x2i.runtime.files import writing
from x2i.runtime.files.staging import staging_folder, sweep
from x2i.runtime.files.writing import check_targets, save_all


@pytest.fixture
def work(elite_bundle: Path, tmp_path: Path) -> Path:
    Image.fromarray(np.full((40, 30, 3), 90, np.uint8)).save(tmp_path / "subject.png")
    return tmp_path


def draw(work: Path, bundle: Path, *options: object) -> Result:
    words = ["run", bundle, "a S", "--subject", work / "subject.png", "--steps", "1", "--size", "16x16"]
    return CliRunner().invoke(main, [str(word) for word in (*words, *options)])


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


OVER: dict[str, Callable[[Path], Path]] = {
    "itself": lambda work: work / "subject.png",
    "by a way around": lambda work: work / "a" / ".." / "subject.png",
    "by a link": lambda work: link(work / "link.png", work / "subject.png"),
    "by a hard link": lambda work: hard_link(work / "hard.png", work / "subject.png"),
}


def link(path: Path, target: Path) -> Path:
    path.symlink_to(target)
    return path


def hard_link(path: Path, target: Path) -> Path:
    os.link(target, path)
    return path


@pytest.mark.parametrize("way", OVER)
def test_never_over_what_is_read(way: str, work: Path, elite_bundle: Path) -> None:
    (work / "a").mkdir()
    out, before = OVER[way](work), content(work)
    result = draw(work, elite_bundle, "--out", out)
    assert result.exit_code == 2 and "expected another file than those that are read" in result.stderr
    assert content(work) == before


def test_nor_inside_a_bundle_nor_twice(work: Path, elite_bundle: Path) -> None:
    assert "a place outside the bundle" in draw(work, elite_bundle, "--out", elite_bundle / "x.png").stderr
    inside = link(work / "inside.png", elite_bundle / "x.png")
    assert "a place outside the bundle" in draw(work, elite_bundle, "--out", inside).stderr
    with pytest.raises(InputError, match="got the same twice"):
        check_targets([work / "a.json", work / "." / "a.json"])


def test_several_pictures_are_looked_at_before_any_work(work: Path, elite_bundle: Path) -> None:
    (work / "subject.png").rename(work / "out-2.png")
    link(work / "subject.png", work / "out-2.png")
    result = draw(work, elite_bundle, "--out", work / "out.png", "--count", "2")
    assert result.exit_code == 2 and "out-2.png: expected another file" in result.stderr


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "old.txt").write_bytes(b"old")
    for name in ("old.txt", "new.txt"):
        path = link(tmp_path / name, Path("there") / name)
        save_all({path: lambda stream: stream.write(b"new")})
        assert path.is_symlink() and (tmp_path / "there" / name).read_bytes() == b"new"
    link(tmp_path / "lost.txt", tmp_path / "nowhere" / "x")
    with pytest.raises(InputError, match="does not exist; create it first"):
        check_targets([tmp_path / "lost.txt"])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("a" * 300 + ".txt", "could not be written|choose a shorter name"),
        ("a\0b", "expected a file name, got embedded null byte"),
        ("folder", "expected a file name, got a folder"),
        ("pipe", "got a device or a pipe"),
        ("no/where", "does not exist"),
    ],
)
def test_what_cannot_be_written_is_told_before(name: str, told: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match=told):
        check_targets([tmp_path / name])


@pytest.mark.parametrize("broken", ["the first write", "the last write", "the last name"])
def test_all_or_none(broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"old")
    before, replaced = content(tmp_path), os.replace

    def full(stream: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    def renamed(source: Path, target: Path) -> None:
        if broken == "the last name" and Path(source).name == "new" and Path(target).name == "c":
            raise OSError(errno.EDQUOT, "Disk quota exceeded")
        replaced(source, target)

    monkeypatch.setattr(writing.os, "replace", renamed)
    writes: dict[Path, writing.Write] = {tmp_path / name: lambda stream: stream.write(b"new") for name in "abc"}
    if broken != "the last name":
        writes[tmp_path / ("a" if broken == "the first write" else "c")] = full
    with pytest.raises(InputError, match=r"could not be written: .*; free space or choose another place"):
        save_all(writes)
    assert content(tmp_path) == before and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_folder_is_refused_before_the_work(tmp_path: Path) -> None:
    """A link that leads nowhere, a file in the way, a name that no disk takes."""
    link(tmp_path / "link", tmp_path / "nowhere")
    (tmp_path / "file").touch()
    for name in ("link", "file", "file/below", "x" * 300, "a\0b"):
        with pytest.raises(InputError), new_folder(tmp_path / name):
            pytest.fail("the work was begun")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "link"]


def test_folders_above_go_with_a_failure(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "a" / "b" / "bundle") as work:
        (work / "file").touch()
        raise RuntimeError
    assert not list(tmp_path.iterdir())
    with new_folder(tmp_path / "a" / "b" / "bundle") as work:
        (work / "file").touch()
    assert (tmp_path / "a" / "b" / "bundle" / "file").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--guidance", "1e300"),
        ("--guidance", "nan"),
        ("--steps", "100000000"),
        ("--precision", "int8", "--trial-size", "99999x8"),
        ("--precision", "int8", "--calibration", "/dev/zero"),
        ("--precision", "int8", "--calibration-seed", "-1"),
    ],
)
def test_an_export_is_refused_before_its_work(options: tuple[str, ...], tmp_path: Path) -> None:
    words = ["export", "sd", str(tmp_path / "a" / "bundle"), "--random-weights", "tiny", *options]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2 and "[1/" not in result.stdout
    assert not list(tmp_path.iterdir())


HOLD = """
import os, sys, time
from pathlib import Path
from x2i.runtime.files.staging import staging_folder
with staging_folder(Path(sys.argv[1]), "label") as folder:
    (folder / "large").write_bytes(b"0" * 1000)
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_what_a_killed_worker_left_is_swept(tmp_path: Path) -> None:
    """And what a living one holds is not."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    killed, living = (subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2))
    left, held = (Path(process.stdout.readline().strip()) for process in (killed, living) if process.stdout)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert str(killed.pid) in left.name and (left / "large").exists()
    with staging_folder(tmp_path, "next") as own:
        assert {path.name for path in tmp_path.iterdir()} == {own.name, held.name}
        sweep(tmp_path)
        assert own.is_dir(), "a process sweeps its own"
    living.kill()
    living.wait()
    sweep(tmp_path)
    assert not list(tmp_path.iterdir())


def _stage(folder: Path) -> bool:
    for _ in range(200):
        with staging_folder(folder, "race") as own:
            (own / "file").write_bytes(b"")
            if not (own / "file").exists():
                return False
    return True


def test_sweepers_do_not_take_a_new_folder(tmp_path: Path) -> None:
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert all(pool.map(_stage, [tmp_path] * 4))
    assert not list(tmp_path.iterdir())


def test_others_folders_stay(tmp_path: Path) -> None:
    (tmp_path / ".mine.x2i-notes").mkdir()
    (tmp_path / ".x2i").mkdir()
    (tmp_path / "plain.x2i-1").mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (target / "file").touch()
    link(tmp_path / ".link.x2i-1", target)
    sweep(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} >= {".mine.x2i-notes", ".x2i", "plain.x2i-1", "target"}
    assert (target / "file").exists()
    shutil.rmtree(target)


def test_a_thousand_files_are_looked_at_in_a_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is asked for once, not once for each of the others."""
    asked: list[Path] = []
    identity = writing._identity
    monkeypatch.setattr(writing, "_identity", lambda path: asked.append(path) or identity(path))
    targets = [tmp_path / f"a-{number}.png" for number in range(300)]
    check_targets(targets)
    assert len(asked) == 300
    with pytest.raises(InputError, match="got the same twice"):
        check_targets([*targets, targets[7]])
