"""Opens a bundle on a backend."""

from pathlib import Path

from .bundle import open_bundle
from .pipeline import Pipeline
from .sessions.session import Session, open_session


def load(folder: str | Path, backend: str = "cpu", threads: int | None = None) -> Pipeline:
    """A Pipeline for a bundle folder, every file checked against its digest.

    `backend` is one of `x2i.runtime.sessions.session.BACKENDS`; `threads` limits the CPU threads of one call. Raises
    InputError when the folder is no bundle, is damaged or newer than this x2i, or the backend is unknown.
    """
    bundle = open_bundle(folder)

    def open_graph(name: str) -> Session:
        return open_session(backend, bundle.path(bundle.manifest.graphs[name].file), threads)

    return Pipeline(bundle, open_graph)
