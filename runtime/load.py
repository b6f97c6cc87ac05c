"""Opens a bundle on a backend."""

from collections.abc import Callable
from pathlib import Path

from .bundle import Bundle, open_bundle
from .errors import together
from .mix import check_mixable
from .pipeline import Pipeline
from .sessions.session import Session, open_session
from .text_side import TextSide


def load(
    folder: str | Path, backend: str = "cpu", threads: int | None = None, *, text_bundle: str | Path | None = None
) -> Pipeline:
    """A Pipeline for a bundle folder, every file checked against its digest.

    `backend` is one of `x2i.runtime.sessions.session.BACKENDS`; `threads` limits the CPU threads of one call;
    `text_bundle` is the folder of a bundle with the same base that reads the prompts a sound is mixed with. Raises
    InputError when a folder is no bundle, is damaged or newer than this x2i, when two do not fit, or for an unknown
    backend.
    """

    def opener(bundle: Bundle) -> Callable[[str], Session]:
        return lambda name: open_session(backend, bundle.path(bundle.manifest.graphs[name].file), threads)

    if text_bundle is None:
        bundle = open_bundle(folder)
        return Pipeline(bundle, opener(bundle))
    bundle, text = together(lambda: open_bundle(folder), lambda: open_bundle(text_bundle))
    check_mixable(bundle, text)
    return Pipeline(bundle, opener(bundle), TextSide(text, opener(text)))
