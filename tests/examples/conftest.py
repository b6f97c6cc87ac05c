"""The desktop app without a screen."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from x2i.runtime.cli import main

from tests.made_once import ROOT

SECONDS = 60
"""After so long a test gives up waiting."""
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")


@pytest.fixture
def qt() -> None:
    """Skips where Qt cannot be loaded: its package, or a library of the system, is not there."""
    reason = "needs PySide6, and what Qt needs of a system"
    pytest.importorskip("PySide6.QtWidgets", exc_type=ImportError, reason=reason)


@pytest.fixture
def window(qt: None) -> Iterator[Any]:
    """A window, whose thread has ended when the test has."""
    from desktop.window import Window
    from PySide6.QtCore import QCoreApplication, QEvent
    from PySide6.QtWidgets import QApplication

    app = QApplication.instance() or QApplication([])
    window = Window()
    window.show()
    app.processEvents()
    yield window
    window.close()
    assert window.thread_of_worker.isFinished()
    # Python would let go of it at some later time, in the midst of another window's work.
    window.deleteLater()
    QCoreApplication.sendPostedEvents(window, QEvent.Type.DeferredDelete)


def settled(window: Any, do: Callable[[], object]) -> Any:
    """What a window says once everything that `do` begins has come to its end."""
    from PySide6.QtCore import QEventLoop, QTimer

    loop, found, timer = QEventLoop(), list[Any](), QTimer(singleShot=True)
    timer.timeout.connect(loop.quit)
    timer.start(1000 * SECONDS)

    def end(result: Any) -> None:
        found.append(result)
        loop.quit()

    window.settled.connect(end)
    do()
    if not found:
        loop.exec()
    window.settled.disconnect(end)
    assert found, "waited in vain"
    return found[0]


def opened(window: Any, bundle: Path) -> Any:
    """The form of a bundle."""
    settled(window, lambda: window.open(str(bundle)))
    assert window.form is not None, window.problems.text()
    return window.form


def run_bytes(out: Path, bundle: Path, *words: str | Path) -> bytes:
    """The file that `x2i run` writes."""
    result = CliRunner().invoke(main, ["run", str(bundle), *map(str, words), "--out", str(out)])
    assert result.exit_code == 0, result.output
    return out.read_bytes()


def app_environment() -> dict[str, str]:
    """In which the app is found and needs no screen."""
    return {"PYTHONPATH": str(ROOT / "examples"), "QT_QPA_PLATFORM": "offscreen", "OMP_NUM_THREADS": "1"}
