"""What draws: it lives on a thread of its own, is asked by signals, and answers by signals."""

import threading
import time
from dataclasses import dataclass, field
from typing import Any

from PIL import Image
from PySide6.QtCore import QObject, Signal, Slot
from PySide6.QtGui import QImage
from x2i.runtime import InputError, Pipeline, Step, load
from x2i.runtime.errors import problems_of

FAILURES = (InputError, OSError, MemoryError, RuntimeError, ValueError, ArithmeticError)
"""What the pipeline, a disk that goes, and a full memory may raise."""


@dataclass(frozen=True, slots=True)
class Drawing:
    """One request: the prompt, None where there is none, and the options that were set. Each has its own `stop`, so
    that a late click cannot end the one behind it."""

    prompt: str | None
    options: dict[str, Any]
    previews: bool = True
    stop: threading.Event = field(default_factory=threading.Event)


class Worker(QObject):
    """Holds the pipeline of the bundle that is open. Its slots run on its thread, one after the other."""

    opened = Signal(object)
    """The Pipeline."""
    stepped = Signal(int, int, float, object)
    """Steps that are done, all of them, the seconds that are left, and a preview: QImages, texts, or None."""
    drawn = Signal(object)
    """The Output."""
    cancelled = Signal()
    refused = Signal(object)
    """One line for each problem."""

    def __init__(self) -> None:
        super().__init__()
        self._pipeline: Pipeline | None = None

    @Slot(str)
    def open(self, folder: str) -> None:
        """Opens a bundle in the place of the last one."""
        try:
            pipeline = load(folder)
        except FAILURES as error:
            self.refused.emit(problems_of(error))
            return
        if self._pipeline is not None:
            self._pipeline.close()
        self._pipeline = pipeline
        self.opened.emit(pipeline)

    @Slot(object)
    def draw(self, drawing: Drawing) -> None:
        """Draws, and looks after every step whether it is to stop."""
        assert self._pipeline is not None, "nothing is drawn before a bundle is open"
        try:
            walk = self._pipeline.steps(drawing.prompt, **drawing.options)
            begun, last = time.monotonic(), None
            for step in walk:
                if drawing.stop.is_set():
                    self.cancelled.emit()
                    return
                left = (time.monotonic() - begun) / (step.index + 1) * (step.count - step.index - 1)
                self.stepped.emit(step.index + 1, step.count, left, _shown(step) if drawing.previews else None)
                last = step
            assert last is not None, "a run without a step"
            output = walk.finish(last)
        except FAILURES as error:
            gone = not self._pipeline.bundle.folder.is_dir()
            self.refused.emit((_gone(self._pipeline),) if gone else problems_of(error))
            return
        self.drawn.emit(output)


def _gone(pipeline: Pipeline) -> str:
    """One line, in the place of one for each file."""
    return f"{pipeline.bundle.folder}: expected the bundle that was opened, got no folder; plug its drive in"


def _shown(step: Step) -> list[Any]:
    return [to_qimage(one) if isinstance(one, Image.Image) else one for one in step.preview()]


def to_qimage(picture: Image.Image) -> QImage:
    """A picture as Qt has it, with pixels of its own."""
    rgb = picture.convert("RGB")
    return QImage(rgb.tobytes(), rgb.width, rgb.height, 3 * rgb.width, QImage.Format.Format_RGB888).copy()
