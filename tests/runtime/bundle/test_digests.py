"""Digests that are remembered: believed while nobody touched the file, and never a way past an altered one."""

import json
import os
import pwd
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from x2i.runtime.bundle import digests
from x2i.runtime.bundle.digests import Digests, sha256_of
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.cli import main
from x2i.runtime.errors import InputError
from x2i.runtime.files.cache import cache_folder

from tests.runtime.toy import write_toy

NAMES = ("a", "b", "c")


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The names of the files that were read, in a cache folder of the test's and on a clock that runs ahead."""
    read, real = [], digests._hashed

    def noting(place: str):
        read.append(Path(place).name)
        return real(place)

    monkeypatch.setattr(digests, "_hashed", noting)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(digests.time, "time_ns", lambda ahead=time.time_ns: ahead() + 2 * digests.RACY_NANOSECONDS)
    return read


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    for name in NAMES:
        (tmp_path / name).write_text(name * 100)
    return [tmp_path / name for name in NAMES]


def another_process() -> None:
    """What this one knows by heart is forgotten; what was written stays."""
    digests._remembered.cache_clear()


def altered_behind_its_back(path: Path) -> None:
    """Same size, same time of modification."""
    before = path.stat()
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_file_is_read_once(paths: list[Path], hashed: list[str]) -> None:
    first = sha256_of(paths)
    assert sorted(hashed) == list(NAMES) and len(set(first)) == 3
    assert sha256_of(paths[::-1]) == first[::-1]
    another_process()
    assert sha256_of(paths) == first
    assert len(hashed) == 3
    assert sha256_of(paths[:1], afresh=True) == first[:1]
    assert hashed[3:] == ["a"]


@pytest.mark.parametrize("touch", ["content", "time", "copy", "link"])
def test_whatever_happens_to_a_file_it_is_read_again(paths: list[Path], hashed: list[str], touch: str) -> None:
    before = sha256_of(paths)
    if touch == "content":
        altered_behind_its_back(paths[1])
    elif touch == "time":
        os.utime(paths[1])
    elif touch == "copy":
        shutil.copy2(paths[1], paths[1].with_name("new"))
        paths[1].with_name("new").replace(paths[1])
    else:
        paths[1].unlink()
        paths[1].symlink_to(paths[0])
    hashed.clear()
    after = sha256_of(paths)
    # A link's target is known by its own name.
    assert hashed == ([] if touch == "link" else ["b"])
    assert (after == before) is (touch in ("time", "copy"))
    assert after[::2] == before[::2]


def test_what_changed_just_now_is_not_remembered(
    paths: list[Path], hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    own = Digests(paths[0].with_name("own.json"))
    own(paths)
    assert json.loads(paths[0].with_name("own.json").read_text()) == {}
    long_ago = time.time_ns() - 10 * digests.RACY_NANOSECONDS
    os.utime(paths[0], ns=(long_ago, long_ago))
    own(paths)
    assert json.loads(paths[0].with_name("own.json").read_text()) == {}, "the time of change counts as well"


def test_a_file_that_changes_while_it_is_read_is_not_remembered(
    paths: list[Path], hashed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = digests.hashlib.file_digest

    def disturbed(stream, name: str):
        found = real(stream, name)
        Path(stream.name).write_text("x")
        return found

    monkeypatch.setattr(digests.hashlib, "file_digest", disturbed)
    sha256_of(paths[:1])
    assert json.loads((cache_folder() / "digests.json").read_text()) == {}


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "null", '{"a": 1}', '{"a": [[1, 2], "x"]}', '{"a": [[1, 2, 3, 4, 5, 6], "x"]}', "\ud800"]
)
def test_a_damaged_memory_remembers_nothing(paths: list[Path], hashed: list[str], content: str) -> None:
    file = cache_folder() / "digests.json"
    file.parent.mkdir(parents=True)
    file.write_text(content, "utf-8", errors="surrogatepass")
    sha256_of(paths)
    another_process()
    sha256_of(paths)
    assert len(hashed) == 3


@pytest.mark.parametrize("place", ["a file is there", "/proc/x2i", ""])
def test_a_cache_folder_that_cannot_be_made(
    paths: list[Path], hashed: list[str], monkeypatch: pytest.MonkeyPatch, place: str, tmp_path: Path
) -> None:
    (tmp_path / "a file is there").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / place) if place else "")
    if not place:
        monkeypatch.delenv("HOME", raising=False)
        monkeypatch.setattr(pwd, "getpwuid", _homeless)
    first = sha256_of(paths)
    another_process()
    assert sha256_of(paths) == first
    assert len(hashed) == 6


def _homeless(number: int) -> None:
    raise KeyError(number)


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "x2i"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    if sys.platform == "linux":
        assert cache_folder() == tmp_path / "home" / ".cache" / "x2i"
    assert not any(tmp_path.iterdir())


def test_the_memory_stays_small(paths: list[Path], hashed: list[str], tmp_path: Path) -> None:
    file = tmp_path / "own.json"
    Digests(file, most=2)(paths[:2])
    Digests(file, most=2)(paths[2:])
    assert [Path(place).name for place in json.loads(file.read_text())] == ["b", "c"]
    paths[1].unlink()
    Digests(file, most=2)(paths[:1])
    assert [Path(place).name for place in json.loads(file.read_text())] == ["c", "a"]
    assert not list(tmp_path.glob(".*"))


def test_processes_at_once_leave_a_whole_memory(paths: list[Path], tmp_path: Path) -> None:
    program = f"""
from pathlib import Path
from x2i.runtime.bundle import digests
digests.RACY_NANOSECONDS = -10**12
own = digests.Digests(Path({str(tmp_path / "own.json")!r}))
for _ in range(20):
    own([Path(name) for name in {[str(path) for path in paths]!r}], afresh=True)
"""
    children = [subprocess.Popen([sys.executable, "-c", program]) for _ in range(3)]
    assert [child.wait() for child in children] == [0, 0, 0]
    assert len(json.loads((tmp_path / "own.json").read_text())) == 3
    assert not list(tmp_path.glob(".*"))


def test_an_altered_bundle_is_refused_though_it_was_good(tmp_path: Path, hashed: list[str]) -> None:
    folder = write_toy(tmp_path / "toy")
    open_bundle(folder)
    hashed.clear()
    open_bundle(folder)
    assert hashed == []
    altered_behind_its_back(folder / "denoiser.onnx")
    with pytest.raises(InputError, match=r"denoiser\.onnx: altered"):
        open_bundle(folder)
    assert hashed == ["denoiser.onnx"]


def test_verify_believes_nothing(tiny_bundle: Path, tmp_path: Path, hashed: list[str]) -> None:
    """As after a fault of the disk, which no time of change tells of."""
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    (bundle / "engines").mkdir()
    (bundle / "engines" / "denoiser-openvino-0.engine").write_text("engine")
    open_bundle(bundle)
    memory = cache_folder() / "digests.json"
    good = memory.read_text()
    altered_behind_its_back(bundle / "decoder.onnx")
    stat = (bundle / "decoder.onnx").stat()
    entries = json.loads(good)
    entries[str(bundle / "decoder.onnx")][0][1:] = [stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    memory.write_text(json.dumps(entries))
    another_process()
    open_bundle(bundle)
    hashed.clear()
    result = CliRunner().invoke(main, ["verify", str(bundle), "--backend", "cpu", "--quick"])
    assert result.exit_code == 2 and "decoder.onnx: altered" in result.stderr, result.output
    assert set(hashed) >= {"denoiser.onnx", "denoiser-openvino-0.engine", "tokenizer.json"}
