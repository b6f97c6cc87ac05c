"""The folder of a bundle's engines: each a file under the digest of all that it depends on, and its record beside it.

The record is written last and names the engine's size and SHA-256, so that an engine half-written, cut short or altered
is never taken for one.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..bundle.digests import sha256_of
from ..bundle.records import Amount, Bytes, Sha256, decode, encode
from ..errors import InputError
from ..files.reading import read_json_file
from ..files.staging import staging_folder
from .key import Differences, EngineKey, differences


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """What is kept of an engine: its key, size, SHA-256, and what building it took; `made` is the time in UTC."""

    key: EngineKey
    bytes: Bytes
    sha256: Sha256
    seconds: Amount
    peak_bytes: Bytes
    made: str


def save_engine(folder: Path, key: EngineKey, engine: Path, seconds: float, peak_bytes: int = 0) -> Path:
    """Moves a finished engine, made inside `staging_dir(folder)`, to its name; writes its record; returns the name."""
    path = folder / f"{key.stem}.engine"
    record = path.with_suffix(".json")
    # Until the new record stands, the old one must not vouch for the new engine.
    record.unlink(missing_ok=True)
    with engine.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    made = datetime.now(UTC).isoformat(timespec="seconds")
    kept = EngineRecord(key, engine.stat().st_size, digest, round(seconds, 3), peak_bytes, made)
    engine.replace(path)
    part = record.with_suffix(".json.part")
    part.write_text(json.dumps(encode(kept), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    part.replace(record)
    return path


def publish_engines(scratch: Path, folder: Path) -> None:
    """Moves every engine that was saved in `scratch` to `folder`, which is on the same disk."""
    for record in sorted(scratch.glob("*.json")):
        engine = record.with_suffix(".engine")
        (folder / record.name).unlink(missing_ok=True)
        engine.replace(folder / engine.name)
        record.replace(folder / record.name)


@contextlib.contextmanager
def staging_dir(folder: Path) -> Iterator[Path]:
    """A folder inside the store for what is being built; whatever happens, it is gone afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with staging_folder(folder, "building") as building:
            yield building
    finally:
        with contextlib.suppress(OSError):
            # Only an empty one goes: nothing was built.
            os.rmdir(folder)


def find_engine(
    folder: Path | None, key: EngineKey, differ: Differences = differences, check_digest: bool = True
) -> Path | None:
    """The newest whole engine that serves `key`, None where there is none; `why_none_fits` then says why.

    `differ` decides what it takes to serve; without `check_digest` only the size is compared with the record.
    """
    for path, record in reversed(sorted(stored_engines(folder, key), key=lambda found: found[1].made)):
        if not differ(record.key, key) and damage(path, record, check_digest) is None:
            return path
    return None


def why_none_fits(folder: Path | None, key: EngineKey, differ: Differences = differences) -> list[str]:
    """Why none of the engines that are there for this graph and library serves `key`, one line each."""
    found = []
    for path, record in stored_engines(folder, key):
        why = [*differ(record.key, key), *filter(None, [damage(path, record)])]
        if why:
            found.append(f"{path.name}: {', '.join(why)}")
    return found


def stored_engines(folder: Path | None, key: EngineKey) -> list[tuple[Path, EngineRecord]]:
    """The engines of one graph and library with their records; what has no record of its own is passed over."""
    found = []
    for path in [] if folder is None else sorted(folder.glob(f"{key.graph}-{key.library}-*.json")):
        with contextlib.suppress(InputError):
            record = read_record(path)
            if record.key.stem == path.stem and (record.key.graph, record.key.library) == (key.graph, key.library):
                found.append((path.with_suffix(".engine"), record))
    return found


def has_engines(folder: Path | None, graph: str, library: str) -> bool:
    """Whether a graph has engines of a library, fitting or not."""
    return folder is not None and any(folder.glob(f"{graph}-{library}-*.json"))


def read_record(path: Path) -> EngineRecord:
    """The record in a file; raises InputError for anything else."""
    return decode(EngineRecord, read_json_file(path, str(path), "the record of an engine"), path.name)


def damage(path: Path, record: EngineRecord, check_digest: bool = True) -> str | None:
    """What is wrong with an engine's file, None where it is what its record says."""
    if not path.is_file():
        return "missing"
    if (size := path.stat().st_size) != record.bytes:
        return f"cut short: {size} of {record.bytes} bytes" if size < record.bytes else "altered: too long"
    if check_digest and sha256_of([path]) != [record.sha256]:
        return "altered: its SHA-256 is not its record's"
    return None
