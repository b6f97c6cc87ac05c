"""`PYTHONPATH=examples python -m desktop [BUNDLE] [PROMPT]`: the app, with a bundle that is opened at once."""

import argparse
import signal
import sys
from functools import partial

from PySide6.QtGui import QColor, QPalette
from PySide6.QtWidgets import QApplication
from x2i.runtime import InputError, Output, Pipeline

from desktop.window import Window

LOOK = """
QPushButton#draw { background: #2f6fde; color: white; font-weight: bold; padding: 6px; border: none;
    border-radius: 4px; }
QPushButton#draw:disabled { background: #a9b6cc; }
QLabel#problems { color: #a4161a; background: #fdecec; padding: 8px; border-radius: 4px; }
"""


def main() -> int:
    """The app until its window is closed. With `--save` it draws, saves and ends: 0, or 2 with a line a problem."""
    words = argparse.ArgumentParser(prog="x2i-desktop", description="Draw with a bundle.")
    words.add_argument("bundle", nargs="?", help="folder to open")
    words.add_argument("prompt", nargs="?", help="what to draw at once")
    words.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an option of the form")
    words.add_argument("--save", metavar="FILE", help="draw at once, save there, and end")
    given = words.parse_args()
    if given.bundle is None and (given.set or given.save):
        words.error("expected a bundle beside --set and --save, got none; name its folder")
    # Qt's loop is not Python's: without this, Ctrl-C would wait for the next event.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    app = QApplication(sys.argv[:1])
    look(app)
    window = Window()
    window.show()
    if given.bundle is not None:
        window.settled.connect(partial(follow, window, given))
        window.open(given.bundle)
    return app.exec()


def look(app: QApplication) -> None:
    """The same on every system, whatever its colours."""
    app.setStyle("Fusion")
    palette = QPalette(QColor("#f4f5f7"))
    palette.setColor(QPalette.ColorRole.Highlight, QColor("#2f6fde"))
    app.setPalette(palette)
    app.setStyleSheet(LOOK)


def follow(window: Window, given: argparse.Namespace, result: object) -> None:
    """What the command line asked for, step by step: sets the form once it is there, draws, and saves."""
    if isinstance(result, Pipeline) and (given.prompt or given.set or given.save):
        try:
            fill(window, given)
        except InputError as error:
            window.refuse(error.problems)
            return
        window.draw()
    elif given.save and isinstance(result, Output):
        if window.save(given.save):
            end(window, 0)
    elif given.save and isinstance(result, tuple):
        for line in result:
            print(f"x2i-desktop: error: {line}", file=sys.stderr)
        end(window, 2)


def fill(window: Window, given: argparse.Namespace) -> None:
    """Sets the form. Raises InputError with every problem."""
    assert window.form is not None, "the form comes with the bundle"
    window.form.prompt.setPlainText(given.prompt or "")
    problems: list[str] = []
    for word in given.set:
        name, _, text = word.partition("=")
        try:
            window.form.set(name, text)
        except InputError as error:
            problems += error.problems
    if problems:
        raise InputError(*problems)


def end(window: Window, code: int) -> None:
    """Closes the window and ends the app."""
    window.close()
    QApplication.exit(code)


if __name__ == "__main__":
    sys.exit(main())
