"""examples/desktop: draws what `x2i run` draws, stops when it is told to, and leaves nothing behind."""

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from x2i.runtime import InputError

from tests.examples.conftest import app_environment, opened, run_bytes, settled
from tests.made_once import ROOT
from tests.processes import run

pytestmark = [pytest.mark.usefixtures("qt"), pytest.mark.filterwarnings("ignore::UserWarning")]
PICTURES = ROOT / "docs" / "pair"
APP = (sys.executable, "-P", "-m", "desktop")
FOREVER = "500"
"""Steps of which a test sees the first."""


def set_all(form: Any, prompt: str = "", **options: str) -> None:
    form.prompt.setPlainText(prompt)
    for name, text in options.items():
        form.set(name, text)


def at_first_step(window: Any, do: Any) -> list[int]:
    """Calls `do` once, at the first step, on the window's thread; the steps that came, as they come."""
    seen: list[int] = []

    def stepped(done: int) -> None:
        # Before the first step the bar says that there is no telling.
        if done > 0:
            seen.append(done)
            if len(seen) == 1:
                do()

    window.progress.valueChanged.connect(stepped)
    return seen


def dropped(paths: list[Path]) -> Any:
    """The event of a drop, and what it holds: Qt does not keep that alive."""
    from PySide6.QtCore import QMimeData, QPointF, Qt, QUrl
    from PySide6.QtGui import QDropEvent

    data = QMimeData()
    data.setUrls([QUrl.fromLocalFile(str(path)) for path in paths])
    actions, buttons, keys = Qt.DropAction.CopyAction, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier
    return QDropEvent(QPointF(1, 1), actions, data, buttons, keys), data


def test_the_form_is_made_from_the_bundles_options(window: Any, tiny_bundle: Path) -> None:
    form = opened(window, tiny_bundle)
    pipeline = settled(window, lambda: window.open(str(tiny_bundle)))
    form = window.form
    assert form.fields.keys() == {name for name, option in pipeline.options().items() if option.form != "array"}
    assert form.fields["steps"].widget.placeholderText() == str(pipeline.bundle.manifest.plan.main.steps)
    assert form.fields["language"].value() == pipeline.options()["language"].choices[0]
    assert form.asked() == (None, {"language": form.fields["language"].value()})
    set_all(form, " rot ", size="64x72", guidance="2", lora="a:1\nb c:2", weights="true", paint_words='{"#fff": "a"}')
    prompt, options = form.asked()
    set_there = {name: options[name] for name in ("size", "guidance", "lora", "weights", "paint_words")}
    assert prompt == "rot" and options.keys() == {"language", *set_there}
    assert [*set_there.values()] == [(64, 72), 2.0, ["a:1", "b c:2"], True, {"#fff": "a"}]
    with pytest.raises(InputError, match="did you mean steps"):
        form.set("step", "3")
    with pytest.raises(InputError, match="this bundle takes none"):
        form.set("subject", "a.png")
    with pytest.raises(InputError, match=r"language: expected .* or "):
        form.set("language", "Klingon")


def test_it_saves_what_run_writes(window: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    form, previews = opened(window, tiny_bundle), []
    set_all(form, "eine rote Blume", language="French", steps="4", seed="5", size="64x72", guidance="2.5")
    window.worker.stepped.connect(lambda done, count, left, shown: previews.append((done, count, len(shown))))
    output = settled(window, window.draw)
    assert window.problems.isHidden(), window.problems.text()
    assert previews == [(1, 4, 1), (2, 4, 1), (3, 4, 1), (4, 4, 1)]
    assert [picture.width() for picture in window.canvas.pictures] == [output.images[0].width]
    assert window.save(str(tmp_path / "app.png"))
    options = ("--language", "French", "--steps", "4", "--seed", "5", "--size", "64x72", "--guidance", "2.5")
    wanted = run_bytes(tmp_path / "run.png", tiny_bundle, "eine rote Blume", *options)
    assert (tmp_path / "app.png").read_bytes() == wanted
    window.previews.setChecked(False)
    form.set("seed", "6")
    settled(window, window.draw)
    assert window.save(str(tmp_path / "other.png")) and (tmp_path / "other.png").read_bytes() != wanted


def test_pictures_are_dropped(window: Any, fastcomposer_bundle: Path, tmp_path: Path) -> None:
    form = opened(window, fastcomposer_bundle)
    pictures = [PICTURES / "left.png", PICTURES / "right.png"]
    prompt = "a toy <|image|> and a toy <|image|>"
    set_all(form, prompt, steps="2")
    drop, _data = dropped(pictures[:1])
    form.fields["subjects"].widget.dropEvent(drop)
    drop, _data = dropped(pictures[1:])
    window.dropEvent(drop)
    assert form.asked()[1]["subjects"] == pictures and "start" not in form.asked()[1]
    settled(window, window.draw)
    assert window.save(str(tmp_path / "app.png")), window.problems.text()
    words = (prompt, "--subject", pictures[0], "--subject", pictures[1], "--steps", "2")
    assert (tmp_path / "app.png").read_bytes() == run_bytes(tmp_path / "run.png", fastcomposer_bundle, *words)


def test_a_dropped_folder_is_opened(window: Any, tiny_bundle: Path) -> None:
    drop, _data = dropped([tiny_bundle])
    settled(window, lambda: window.dropEvent(drop))
    assert window.windowTitle().startswith(tiny_bundle.name)


def test_it_gives_what_is_no_picture(window: Any, tiny_bundle: Path, sound_bundle: Path, tmp_path: Path) -> None:
    """A sound that cannot be read is refused by its line, and the next bundle opens in its place."""
    form = opened(window, sound_bundle)
    (tmp_path / "a.wav").write_bytes(b"no sound")
    assert form.prompt.isHidden()
    form.set("sound", str(tmp_path / "a.wav"))
    (line,) = settled(window, window.draw)
    assert str(tmp_path / "a.wav") in line and window.problems.text() == line
    opened(window, tiny_bundle)
    assert not window.problems.isVisible()


def test_cancel_ends_within_a_step(window: Any, tiny_bundle: Path) -> None:
    form = opened(window, tiny_bundle)
    set_all(form, "rot", language="French", steps=FOREVER)
    seen = at_first_step(window, window.cancel)
    assert settled(window, window.draw) is None
    # The step that was under way may end before the click arrives.
    assert len(seen) <= 3 and not window.cancel_button.isEnabled() and window.draw_button.isEnabled()
    form.set("steps", "2")
    assert settled(window, window.draw).images


def test_problems_are_shown_as_the_pipeline_tells_them(window: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    (line,) = settled(window, lambda: window.open(str(tmp_path)))
    assert line == window.problems.text() and str(tmp_path) in line and window.form is None
    form = opened(window, tiny_bundle)
    set_all(form, "rot", language="French", steps="many", seed="-1")
    lines = settled(window, window.draw)
    assert {line.partition(":")[0] for line in lines} == {"steps", "seed"}
    assert window.problems.text().splitlines() == list(lines)
    set_all(form, "rot", steps="2", seed="")
    settled(window, window.draw)
    assert window.problems.isHidden()
    assert not window.save(str(tmp_path / "a.xyz")) and "a.xyz" in window.problems.text()
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_vanishes_while_drawing(window: Any, tiny_bundle: Path, tmp_path: Path) -> None:
    """As on a drive that is pulled: what is open is drawn to its end, what is not is told in one line."""
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, bundle)
    form = opened(window, bundle)
    set_all(form, "rot", language="French", steps="4")
    at_first_step(window, lambda: shutil.rmtree(bundle))
    first = settled(window, window.draw)
    assert isinstance(first, tuple) or first.images
    form.set("language", "Chinese")
    (line,) = settled(window, window.draw)
    assert str(bundle) in line and line == window.problems.text()


CLOSED_WHILE_DRAWING = """
import sys
from PySide6.QtWidgets import QApplication
from desktop.window import Window
app, window, seen = QApplication([]), Window(), []
def draw(result):
    if seen:
        return
    window.form.prompt.setPlainText("rot")
    window.form.set("steps", sys.argv[2])
    window.draw()
def stepped(done):
    if done > 0:
        seen.append(done)
        window.close()
window.settled.connect(draw)
window.progress.valueChanged.connect(stepped)
window.show()
window.open(sys.argv[1])
code = app.exec()
print(code, window.thread_of_worker.isFinished(), len(seen))
"""


@pytest.mark.usefixtures("window")
def test_closing_the_window_while_drawing_leaves_nothing_running(tiny_bundle: Path, tmp_path: Path) -> None:
    words = (sys.executable, "-P", "-c", CLOSED_WHILE_DRAWING, tiny_bundle, FOREVER)
    assert run(*words, cwd=tmp_path, **app_environment()).stdout.split() == ["0", "True", "1"]


@pytest.mark.usefixtures("window")
def test_two_apps_draw_with_one_bundle(tiny_bundle: Path, tmp_path: Path) -> None:
    names, options = ("one.png", "other.png"), ("--set", "language=French", "--set", "steps=4")
    apps = [
        threading.Thread(
            target=run,
            args=(*APP, tiny_bundle, "rot", *options, "--save", name),
            kwargs={"cwd": tmp_path, **app_environment()},
        )
        for name in names
    ]
    for app in apps:
        app.start()
    for app in apps:
        app.join()
    wanted = run_bytes(tmp_path / "run.png", tiny_bundle, "rot", "--language", "French", "--steps", "4")
    assert [(tmp_path / name).read_bytes() for name in names] == [wanted, wanted]


@pytest.mark.usefixtures("window")
def test_its_command_line_refuses_in_lines(tiny_bundle: Path, tmp_path: Path) -> None:
    words = ("--set", "colour=red", "--set", "language=Klingon", "--save", "a.png")
    said = run(*APP, tiny_bundle, "rot", *words, cwd=tmp_path, code=2, **app_environment()).stderr.splitlines()
    assert [line.partition(": expected")[0] for line in said if "error" in line] == [
        "x2i-desktop: error: colour",
        "x2i-desktop: error: language",
    ]
    said = run(*APP, "--save", "a.png", cwd=tmp_path, code=2, **app_environment()).stderr
    assert "expected a bundle" in said and not list(tmp_path.iterdir())
