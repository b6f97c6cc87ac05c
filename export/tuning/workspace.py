"""A bundle's stand-in while it is tuned: a hidden folder beside it with the same files, which may be added to."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from x2i.runtime.bundle import ENGINES, Bundle


@contextmanager
def workspace(bundle: Bundle) -> Iterator[Bundle]:
    """The bundle in a folder that is gone afterwards; files are linked where the disk can, else copied."""
    home = bundle.folder.absolute()
    with TemporaryDirectory(dir=home.parent, prefix=f".{home.name}.tuning-") as folder:
        work = Path(folder)
        for name in bundle.manifest.files:
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            _link(home / name, work / name)
        if (home / ENGINES).is_dir():
            (work / ENGINES).symlink_to(home / ENGINES)
        yield Bundle(work, bundle.manifest)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        # Not every disk has links, and not every folder is on one disk.
        shutil.copyfile(source, target)
