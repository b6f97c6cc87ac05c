"""The window: opens bundles, asks the worker to draw, shows what it answers, and saves."""

from html import escape
from pathlib import Path
from typing import Any

from PySide6.QtCore import Qt, QThread, Signal
from PySide6.QtGui import QAction, QCloseEvent, QImage, QKeySequence
from PySide6.QtWidgets import (
    QCheckBox,
    QFileDialog,
    QHBoxLayout,
    QLabel,
    QMainWindow,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)
from x2i.runtime import InputError, Output, Pipeline

from .form import Form
from .pictures import Canvas, dropped_files
from .worker import Drawing, Worker, to_qimage

WELCOME = "Open a bundle, or drop its folder here."


class Window(QMainWindow):
    """One bundle at a time, drawn with on a thread of its own."""

    asks_to_open = Signal(str)
    asks_to_draw = Signal(object)
    settled = Signal(object)
    """Nothing is under way any more: the Output, the Pipeline that was opened, lines of problems, or None where a
    drawing was cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.form: Form | None = None
        self.output: Output | None = None
        self.drawing: Drawing | None = None
        self._folder = ""
        self._lay_out()
        self.setAcceptDrops(True)
        self.thread_of_worker = QThread()
        self.worker = Worker()
        self.worker.moveToThread(self.thread_of_worker)
        self.asks_to_open.connect(self.worker.open)
        self.asks_to_draw.connect(self.worker.draw)
        self.worker.opened.connect(self._opened)
        self.worker.stepped.connect(self._stepped)
        self.worker.drawn.connect(self._drawn)
        self.worker.cancelled.connect(self._cancelled)
        self.worker.refused.connect(self.refuse)
        self.thread_of_worker.start()
        self._allow(busy=False)

    def _lay_out(self) -> None:
        self.setWindowTitle("x2i")
        self.resize(980, 660)
        bar = self.addToolBar("actions")
        bar.setMovable(False)
        self._open = self._action("Open…", QKeySequence(QKeySequence.StandardKey.Open), self.choose_bundle)
        self._save = self._action("Save…", QKeySequence(QKeySequence.StandardKey.Save), self.choose_file)
        bar.addActions([self._open, self._save])
        self._place = QLabel()
        self._place.setContentsMargins(12, 0, 0, 0)
        bar.addWidget(self._place)
        self.canvas = Canvas()
        self.canvas.show_pictures([], WELCOME)
        self.draw_button, self.cancel_button = QPushButton("Draw"), QPushButton("Cancel")
        self.draw_button.setObjectName("draw")
        self.draw_button.setShortcut(QKeySequence("Ctrl+Return"))
        self.cancel_button.setShortcut(QKeySequence("Esc"))
        self.draw_button.clicked.connect(self.draw)
        self.cancel_button.clicked.connect(self.cancel)
        self.previews = QCheckBox("Preview every step")
        self.previews.setChecked(True)
        self.previews.setToolTip("Each preview is decoded, which takes its time with a large model.")
        self._scroll = QScrollArea(widgetResizable=True)
        self._scroll.setFrameShape(QScrollArea.Shape.NoFrame)
        self._scroll.viewport().setAutoFillBackground(False)
        self._scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        buttons = QHBoxLayout()
        buttons.addWidget(self.draw_button, 2)
        buttons.addWidget(self.cancel_button, 1)
        left, side = QWidget(), QVBoxLayout()
        left.setLayout(side)
        left.setFixedWidth(320)
        side.addWidget(self._scroll)
        side.addWidget(self.previews)
        side.addLayout(buttons)
        self.problems = QLabel(wordWrap=True)
        self.problems.setObjectName("problems")
        self.problems.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.problems.hide()
        right = QVBoxLayout()
        right.addWidget(self.canvas, 1)
        right.addWidget(self.problems)
        middle, row = QWidget(), QHBoxLayout()
        middle.setLayout(row)
        row.addWidget(left)
        row.addLayout(right, 1)
        self.setCentralWidget(middle)
        self.progress = QProgressBar(textVisible=False)
        self.progress.setMaximumWidth(220)
        self.progress.hide()
        self.statusBar().addPermanentWidget(self.progress)

    def _action(self, text: str, keys: QKeySequence, do: Any) -> QAction:
        action = QAction(text, self)
        action.setShortcut(keys)
        action.triggered.connect(do)
        return action

    def choose_bundle(self) -> None:
        """Asks for a folder, and opens it."""
        if folder := QFileDialog.getExistingDirectory(self, "Open a bundle"):
            self.open(folder)

    def open(self, folder: str) -> None:
        """Opens a bundle; what is drawn with the one before stays until then."""
        self._folder = folder
        self._begin(f"Opening {Path(folder).name} …")
        self.asks_to_open.emit(folder)

    def draw(self) -> None:
        """Draws what the form says."""
        assert self.form is not None, "there is no form before a bundle is open"
        prompt, options = self.form.asked()
        self.drawing = Drawing(prompt, options, self.previews.isChecked())
        self._begin("Reading …")
        self.asks_to_draw.emit(self.drawing)

    def cancel(self) -> None:
        """Ends the drawing within one step."""
        if self.drawing is not None:
            self.drawing.stop.set()

    def choose_file(self) -> None:
        """Asks for a name, and saves."""
        if name := QFileDialog.getSaveFileName(self, "Save", "out.png")[0]:
            self.save(name)

    def save(self, name: str) -> bool:
        """Writes what was drawn: the bytes that `x2i run` writes. False where that was refused."""
        assert self.output is not None, "there is nothing to save before something is drawn"
        try:
            paths = self.output.save(name)
        except InputError as error:
            self.refuse(error.problems)
            return False
        self.statusBar().showMessage(f"Saved {', '.join(path.name for path in paths)}")
        return True

    def refuse(self, lines: tuple[str, ...]) -> None:
        """Shows why something cannot be done, a line for each problem, as the pipeline says it."""
        self._end("")
        self.problems.setText("\n".join(lines))
        self.problems.show()
        self.settled.emit(lines)

    def _begin(self, said: str) -> None:
        self.problems.hide()
        self.progress.setRange(0, 0)
        self.progress.show()
        self.statusBar().showMessage(said)
        self._allow(busy=True)

    def _end(self, said: str) -> None:
        self.drawing = None
        self.progress.hide()
        self.statusBar().showMessage(said)
        self._allow(busy=False)

    def _allow(self, busy: bool) -> None:
        self._open.setEnabled(not busy)
        self.draw_button.setEnabled(not busy and self.form is not None)
        self.cancel_button.setEnabled(self.drawing is not None)
        self._save.setEnabled(not busy and self.output is not None)

    def _opened(self, pipeline: Pipeline) -> None:
        self.form, self.output = Form(pipeline), None
        self._scroll.setWidget(self.form)
        self.form.setAutoFillBackground(False)
        name = Path(self._folder).resolve().name
        self.setWindowTitle(f"{name} – x2i")
        self._place.setText(f"<b>{escape(name)}</b> &nbsp; {pipeline.bundle.manifest.system}, on {pipeline.backend}")
        self._place.setToolTip("\n".join([self._folder, *pipeline.notes]))
        self.canvas.show_pictures([])
        self._end("")
        self.settled.emit(pipeline)

    def _stepped(self, done: int, count: int, left: float, preview: list[Any] | None) -> None:
        self.progress.setRange(0, count)
        self.progress.setValue(done)
        self.statusBar().showMessage(f"Step {done} of {count}, {left:.0f} s left")
        if preview is not None:
            self._show(preview)

    def _drawn(self, output: Output) -> None:
        self.output = output
        self._show([*map(to_qimage, output.images), *output.texts, *output.sounds])
        self._end(f"Drawn in {output.timings['total']:.1f} s")
        if output.warnings:
            self.statusBar().showMessage("; ".join(output.warnings))
        self.settled.emit(output)

    def _show(self, results: list[Any]) -> None:
        pictures = [one for one in results if isinstance(one, QImage)]
        texts = [one for one in results if isinstance(one, str)]
        sounds = [f"A sound of {one.seconds:.1f} s: save it to hear it" for one in results if hasattr(one, "rate")]
        self.canvas.show_pictures(pictures, "\n".join([*texts, *sounds]))

    def _cancelled(self) -> None:
        self._end("Cancelled")
        self.settled.emit(None)

    def dragEnterEvent(self, event: Any) -> None:
        """Bundles and files are welcome."""
        if dropped_files(event.mimeData()):
            event.acceptProposedAction()

    def dropEvent(self, event: Any) -> None:
        """A folder is opened, a file goes to the form."""
        for path in dropped_files(event.mimeData()):
            if path.is_dir() and self._open.isEnabled():
                self.open(str(path))
            elif self.form is not None and not self.form.drop(path):
                self.refuse((f"{path.name}: expected no file, got one; this bundle reads none",))

    def closeEvent(self, event: QCloseEvent) -> None:
        """Goes at once; what is under way ends within one step, and the thread with it."""
        self.cancel()
        self.hide()
        self.thread_of_worker.quit()
        self.thread_of_worker.wait()
        super().closeEvent(event)
