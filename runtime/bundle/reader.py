"""The bundle: a folder with `manifest.json`, the graphs and the tokenizers. The one contract of export and runtime."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..errors import InputError
from ..files.reading import parse_json, read_text
from ..sessions.session import GraphFile
from . import manifest as manifests
from .digests import sha256_of
from .external_data import external_data_names
from .manifest import File, Manifest
from .records import decode

ENGINES = "engines"
"""Built on the device and not listed in the manifest: what is in there carries its own digests."""
_FIX = "copy or export the bundle again"


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle: its folder, what its manifest says, and that file's SHA-256, None where the manifest is not the
    file's."""

    folder: Path
    manifest: Manifest
    sha256: str | None = None

    def path(self, name: str) -> Path:
        """The place of one of the bundle's files."""
        return self.folder / name

    def check(self, names: Iterable[str]) -> None:
        """Compares files with their digests, which may be known from an earlier reading as long as nobody has touched
        them (see `digests`). Raises InputError with a line for every file that is missing, cut short or altered."""
        files = {self.path(name): self.manifest.files[name] for name in names}
        if problems := _file_problems(files):
            raise InputError(*problems)

    def checked(self, name: str) -> Path:
        """The place of one of the bundle's files that is about to be read, once it is what the manifest says."""
        self.check([name])
        return self.path(name)

    def check_graphs(self, names: Iterable[str]) -> None:
        """`check` for the files of some graphs and their external data."""
        graphs = (self.manifest.graphs[name] for name in names)
        self.check(dict.fromkeys(file for graph in graphs for file in (graph.file, *graph.data)))

    def graph_bytes(self, name: str) -> int:
        """Bytes of a graph and its external data."""
        graph = self.manifest.graphs[name]
        return sum(self.manifest.files[file].bytes for file in (graph.file, *graph.data))

    def graph_file(self, name: str) -> GraphFile:
        """A graph as a backend opens it; its digest covers the graph and its external data."""
        graph = self.manifest.graphs[name]
        digests = "".join(self.manifest.files[file].sha256 for file in (graph.file, *graph.data))
        digest = hashlib.sha256(digests.encode()).hexdigest()
        path, engines = self.path(graph.file), self.folder / ENGINES
        return GraphFile(
            name,
            path,
            graph.precision,
            digest,
            engines,
            graph.inputs,
            graph.outputs,
            self.graph_bytes(name),
            looped=self.manifest.plan.in_loop(name),
        )


def open_bundle(folder: str | Path, check_files: bool = True) -> Bundle:
    """Reads and checks a bundle; `check_files` compares every file with its digest, which may be known from an earlier
    opening (see `digests`).

    Raises InputError for a folder that is no bundle, a newer revision, unknown keys, or files that are missing,
    truncated or altered - all of them named.
    """
    folder = Path(folder)
    data, sha256 = _read_manifest(folder)
    bundle = Bundle(folder, decode(Manifest, data, manifests.FILE_NAME), sha256)
    if problems := bundle.manifest.problems():
        raise InputError(*problems)
    if check_files:
        bundle.check(bundle.manifest.files)
        if problems := _unlisted_data(bundle):
            raise InputError(*problems)
    return bundle


def _file_problems(files: Mapping[Path, File]) -> list[str]:
    """One line for every file whose size or SHA-256 is not the manifest's."""
    found = {path: _size_problem(path, file) for path, file in files.items()}
    whole = [path for path, problem in found.items() if problem is None]
    for path, digest in zip(whole, sha256_of(whole), strict=True):
        if digest != files[path].sha256:
            found[path] = f"{path}: altered: expected sha256 {files[path].sha256}, got {digest}; {_FIX}"
    return [problem for problem in found.values() if problem]


def _unlisted_data(bundle: Bundle) -> list[str]:
    """One line for every file that a graph reads beside itself and that the manifest does not list for it."""
    return [
        f"{bundle.path(graph.file)}: expected data in {', '.join(graph.data) or 'the graph itself'}, got a graph that "
        f"reads {name!r}, which the manifest does not list for it; {_FIX}"
        for graph in bundle.manifest.graphs.values()
        for name in external_data_names(bundle.path(graph.file))
        if (PurePosixPath(graph.file).parent / name).as_posix() not in graph.data
    ]


def hash_again(bundle: Bundle) -> None:
    """Reads every file of a bundle, its engines too, so that nothing is believed of it because it was so before."""
    files = [*map(bundle.path, bundle.manifest.files), *(bundle.folder / ENGINES).glob("*.engine")]
    sha256_of([path for path in files if path.is_file()], afresh=True)


def file_record(path: Path) -> File:
    """Size and digest of a file as the manifest keeps them."""
    with path.open("rb") as stream:
        return File(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _read_manifest(folder: Path) -> tuple[dict, str]:
    """What the file holds, in this revision, and its SHA-256."""
    path = folder / manifests.FILE_NAME
    # Unlike Path.exists, it takes a name too long for one that is not there.
    if not os.path.exists(path):
        raise InputError(f"{folder}: expected a bundle folder with {manifests.FILE_NAME}; make one with `x2i export`")
    text = read_text(path, str(path), "a manifest")
    data = parse_json(text, str(path))
    revision = data.get("revision", manifests.REVISION) if isinstance(data, dict) else None
    if isinstance(revision, int) and not isinstance(revision, bool) and revision > manifests.REVISION:
        raise InputError(
            f"{path}: bundle revision {revision}, but this x2i reads up to {manifests.REVISION}; upgrade x2i-edge"
        )
    return manifests.in_this_revision(data), hashlib.sha256(text.encode()).hexdigest()


def _size_problem(path: Path, expected: File) -> str | None:
    if not path.is_file():
        return f"{path}: expected a file of {expected.bytes} bytes, found none; {_FIX}"
    size = path.stat().st_size
    if size != expected.bytes:
        return f"{path}: expected {expected.bytes} bytes (sha256 {expected.sha256}), got {size} bytes; {_FIX}"
    return None
