"""Where a worker tries its inputs: its own folders, copies of the bundles, and what is in there."""

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Entry = tuple[int, int, int, int]


class Room:
    """Folders below `root`: `work` is the working folder and empty before each input, `tmp` the system's temporary
    folder, `cache` the user's, `stderr` a file. Bundles are copied from `sources` when they are first asked for."""

    def __init__(self, root: Path, sources: Mapping[str, Path]):
        self.root, self._sources = root, sources
        self._whole: dict[str, dict[str, Entry]] = {}
        self.work, self.tmp, self.cache, self.home = (root / name for name in ("work", "tmp", "cache", "home"))
        for folder in (self.work, self.tmp, self.cache, self.home, root / "bundles"):
            folder.mkdir(parents=True)
        os.environ |= {"HOME": str(self.home), "XDG_CACHE_HOME": str(self.cache), "TMPDIR": str(self.tmp)}
        self.stderr = root / "stderr"
        os.dup2(os.open(self.stderr, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        tempfile.tempdir = str(self.tmp)
        os.chdir(self.work)

    def bundle(self, system: str) -> Path:
        """This worker's own copy of a bundle."""
        copy = self.root / "bundles" / system
        if not copy.exists():
            shutil.copytree(self._sources[system], copy)
            self._whole[system] = contents(copy)
        return copy

    @contextmanager
    def replaced(self, folder: Path, files: Mapping[str, bytes | None]) -> Iterator[None]:
        """Files of a folder with another content, None for none; afterwards they are as before."""
        kept = {name: (folder / name).read_bytes() if (folder / name).exists() else None for name in files}
        _write(folder, files)
        try:
            yield
        finally:
            _write(folder, kept)

    def spoken(self) -> str:
        """What libraries wrote past Python to the process's stderr since the last time."""
        with self.stderr.open("r+", encoding="utf-8", errors="backslashreplace") as stream:
            text = stream.read()
            stream.truncate(0)
        return text

    def clear(self) -> None:
        """Empties `work` and `tmp`, whatever was left there, and gives up copies of bundles that lack or have more."""
        os.chdir(self.root)
        for folder in (self.work, self.tmp):
            shutil.rmtree(folder, onerror=_unlock)
            folder.mkdir(exist_ok=True)
        for copy in (self.root / "bundles").iterdir():
            whole = self._whole.get(copy.name)
            if whole is None or contents(copy).keys() != whole.keys():
                shutil.rmtree(copy, onerror=_unlock)
        os.chdir(self.work)

    def contents(self) -> dict[str, Entry]:
        """Everything in the room but what is the user's own."""
        return contents(self.work) | contents(self.tmp) | contents(self.root / "bundles")


def contents(root: Path) -> dict[str, Entry]:
    """Type and mode, size, time of change and inode of everything below a folder, by its path."""
    found: dict[str, Entry] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(folder, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                # A command at work makes and removes files while it is looked at.
                continue
            # A folder's own change with every file that comes and goes.
            plain = not stat.S_ISDIR(status.st_mode)
            found[path] = status.st_mode, plain * status.st_size, plain * status.st_mtime_ns, status.st_ino
    return found


def _write(folder: Path, files: Mapping[str, bytes | None]) -> None:
    for name, content in files.items():
        if content is None:
            (folder / name).unlink(missing_ok=True)
        else:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)


def _unlock(function: object, path: str, error: object) -> None:
    os.chmod(Path(path).parent, 0o700)
    os.chmod(path, 0o700, follow_symlinks=False) if os.chmod in os.supports_follow_symlinks else None
    shutil.rmtree(path, ignore_errors=True) if Path(path).is_dir() else Path(path).unlink(missing_ok=True)
