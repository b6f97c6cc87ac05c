"""ONNX Runtime's telemetry is declined before its first import, in every room and every child, unless the user has
decided otherwise: nothing is written for it, and no name is resolved."""

import os
import re
import shutil
import sys
from pathlib import Path

import pytest
from x2i.runtime.telemetry import TELEMETRY_VARIABLE

from tests import architecture
from tests.architecture import imports, sources
from tests.processes import run

LIBRARY = re.compile(r"onnxruntime(\.|$)")
ROOMS = sorted(
    {source.room for source in sources(*architecture.ARROWS) for name in imports(source) if LIBRARY.match(name)}
)
DRAW = ("run", "--language", "French", "--steps", "1", "--size", "16x16", "--json")
BUILD = ("build", "--for", "cpu", "--graph", "decoder", "--json")
STRACE = ("strace", "-f", "-qq", "--seccomp-bpf", "-o", "trace", "-e", "trace=connect,sendto,sendmmsg")


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("chosen", [None, "0", "1"])
def test_it_is_declined_before_any_module_of_a_room(room: str, chosen: str | None, tmp_path: Path) -> None:
    """A package runs before its modules, however they order their imports."""
    code = f"import sys, os, x2i.{room}; print('onnxruntime' in sys.modules, os.environ[{TELEMETRY_VARIABLE!r}])"
    clean = {name: value for name, value in os.environ.items() if name != TELEMETRY_VARIABLE}
    wanted = {} if chosen is None else {TELEMETRY_VARIABLE: chosen}
    words = ("env", "-i", *(f"{name}={value}" for name, value in (clean | wanted).items()), sys.executable, "-P")
    assert run(*words, "-c", code, cwd=tmp_path).stdout.split() == ["False", chosen or "1"]


def leftovers(folder: Path, words: tuple[str, ...], bundle: Path, **environment: str) -> tuple[set[str], set[str]]:
    """What a command leaves below a user's home that is not ours, and the addresses that it sent to."""
    home, work = folder / "home", folder / "work"
    home.mkdir()
    work.mkdir()
    command, *rest = words
    prompt = ["ein roter Apfel"] if command == "run" else []
    places = {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), TELEMETRY_VARIABLE: "1"} | environment
    traced = STRACE if shutil.which("strace") else ()
    # The test's own process has decided already: the command must decide by itself.
    unset = ("env", "-u", TELEMETRY_VARIABLE) if TELEMETRY_VARIABLE not in environment else ()
    x2i = Path(sys.executable).with_name("x2i")
    run(*unset, *traced, x2i, command, bundle, *prompt, *rest, cwd=work, **places)
    written = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    sent = (work / "trace").read_text("utf-8") if traced else ""
    return {name for name in written if not name.startswith("cache/x2i/")}, set(re.findall(r"sin6?_port=\S+", sent))


@pytest.mark.parametrize("words", [DRAW, BUILD], ids=["run", "build, whose work a child does"])
def test_a_command_leaves_nothing_and_asks_nobody(words: tuple[str, ...], tiny_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    assert leftovers(tmp_path, words, bundle) == (set(), set())


def test_what_the_library_writes_otherwise_is_seen(tiny_bundle: Path, tmp_path: Path) -> None:
    """Where the user allows it; releases before 1.32 have none, and on some build machines it keeps still."""
    import onnxruntime

    if tuple(map(int, onnxruntime.__version__.split(".")[:2])) < (1, 32):
        pytest.skip("this ONNX Runtime has no telemetry")
    written, _ = leftovers(tmp_path, DRAW, tiny_bundle, **{TELEMETRY_VARIABLE: "0"})
    if not any("onnxruntime" in name for name in written):
        pytest.skip("ONNX Runtime wrote nothing on this machine, though it was allowed")
