"""The way from a command or a call to the work is short, and goes down: no module stands on it twice."""

import sys

import numpy as np
import pytest
from click.testing import CliRunner
from x2i.export import exporter
from x2i.export.components import vision
from x2i.runtime.cli import main
from x2i.runtime.inputs.pictures import subject
from x2i.runtime.load import load
from x2i.runtime.sessions.onnxruntime_cpu import OnnxRuntimeSession

MOST = {"export": 6, "run": 5, "call": 5}
AROUND = ("x2i.runtime.cli", "x2i.runtime.commands.console")
"""What stands around every command, and is no hop."""


def modules_on_the_stack(skip: int = 2) -> list[str]:
    """The modules of the product that wait for this call, the outermost first, each as often as the way enters it."""
    names: list[str] = []
    frame = sys._getframe(skip)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith("x2i.") and name not in AROUND and (not names or names[-1] != name):
            names.append(name)
        frame = frame.f_back
    return names[::-1]


@pytest.fixture
def way(monkeypatch):
    """`way(owner, name)` notes how the function is reached for the first time."""
    ways: dict[str, list[str]] = {}

    def note(owner, name):
        original = getattr(owner, name)

        def noting(*arguments, **keywords):
            target = original.__globals__["__name__"] if hasattr(original, "__globals__") else original.__module__
            found = modules_on_the_stack()
            ways.setdefault(name, found if found[-1:] == [target] else [*found, target])
            return original(*arguments, **keywords)

        monkeypatch.setattr(owner, name, noting)
        return ways

    return note


def check(found: list[str], kind: str) -> None:
    assert len(found) - 1 <= MOST[kind], " -> ".join(found)
    assert len(set(found)) == len(found), f"climbs back: {' -> '.join(found)}"


def test_from_the_command_to_a_session(tiny_bundle, way, tmp_path):
    ways = way(OnnxRuntimeSession, "__init__")
    command = ["run", str(tiny_bundle), "rot", "--language", "French", "--steps", "1", "--threads", "1"]
    result = CliRunner().invoke(main, [*command, "--out", str(tmp_path / "a.png")])
    assert result.exit_code == 0, result.output
    assert ways["__init__"][0] == "x2i.runtime.commands.run"
    check(ways["__init__"], "run")


def test_from_a_call_to_a_step_and_to_a_subjects_pixels(elite_bundle, way):
    pipeline = load(elite_bundle, threads=1)
    ways = way(subject, "squashed")
    way(OnnxRuntimeSession, "bind")
    picture = np.full((64, 64, 3), 128, np.uint8)
    pipeline("a S", subject=picture, steps=1)
    for name in ("squashed", "bind"):
        assert ways[name][0] == "x2i.runtime.pipeline"
        check(ways[name], "call")
    assert (
        "x2i.runtime.processes.denoiser" in ways["bind"] and "x2i.runtime.inputs.pictures.subject" in ways["squashed"]
    )


def test_from_the_command_to_a_traced_graph(way, tmp_path, monkeypatch):
    class Enough(BaseException):
        """The first graph is all that is looked at; no failure, which the command would tell in a line."""

    ways = way(vision, "vision_component")
    way(exporter, "to_onnx")
    monkeypatch.setattr("x2i.export.systems.elite.vision_component", vision.vision_component)
    monkeypatch.setattr(exporter, "_proof_arrays", lambda *_: (_ for _ in ()).throw(Enough()))
    command = ["export", "elite", str(tmp_path / "bundle"), "--random-weights", "tiny"]
    with pytest.raises(Enough):
        CliRunner().invoke(main, command)
    for name in ("vision_component", "to_onnx"):
        assert "x2i.export.commands.export" in ways[name]
        check(ways[name], "export")


def test_a_climb_is_seen():
    with pytest.raises(AssertionError, match="climbs back"):
        check(["x2i.a", "x2i.b", "x2i.a"], "run")
    with pytest.raises(AssertionError):
        check([f"x2i.m{number}" for number in range(7)], "run")
