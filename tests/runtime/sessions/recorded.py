"""A pipeline that notes which graphs it opens, and every call of the denoiser."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import Session


class Recorded(Pipeline):
    """`opened` are graph names in order; `calls` are the denoiser's (inputs, noise)."""

    def __init__(self, folder: Path):
        self.opened: list[str] = []
        self.calls: list[tuple[dict[str, np.ndarray], np.ndarray]] = []
        super().__init__(open_bundle(folder), self._open)

    def _open(self, graph: str) -> Session:
        self.opened.append(graph)
        session = open_session("cpu", self.bundle.graph_file(graph))
        return _Noted(session, self.calls) if graph == "denoiser" else session


class _Noted:
    def __init__(self, session: Session, calls: list):
        self._session, self._calls = session, calls
        self.inputs, self.outputs = session.inputs, session.outputs

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        outputs = self._session(**arrays)
        self._calls.append((arrays, outputs["noise"]))
        return outputs

    def bind(self, **arrays: np.ndarray) -> Callable[..., dict[str, np.ndarray]]:
        return partial(self, **arrays)
