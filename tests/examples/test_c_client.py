"""examples/c: a program in C draws over the server's Unix socket, which is its owner's alone."""

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.examples.conftest import SECONDS, run_bytes
from tests.made_once import ROOT

SERVE = (
    sys.executable,
    "-P",
    "-c",
    "import sys; from x2i.runtime.cli import main; sys.argv[0] = 'x2i'; main()",
    "serve",
)
SOURCE = ROOT / "examples" / "c" / "x2i-draw.c"
OPTIONS = ("language=French", "steps=4", "size=[64,72]", "sampler=euler")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, compiled without a warning."""
    if (compiler := shutil.which("gcc") or shutil.which("cc")) is None:
        pytest.skip("needs a C compiler")
    made = tmp_path_factory.mktemp("c") / "x2i-draw"
    words = [compiler, "-std=c11", "-O1", "-Wall", "-Wextra", "-Werror", "-o", str(made), str(SOURCE)]
    subprocess.run(words, check=True)
    return made


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A socket's path, where one lies that nobody listens at any more; the system's are short."""
    with tempfile.TemporaryDirectory(prefix="x2i") as folder:
        place = Path(folder, "x2i.sock")
        with socket.socket(socket.AF_UNIX) as left_behind:
            left_behind.bind(str(place))
        yield place


@pytest.fixture(scope="module")
def server(tiny_bundle: Path, place: Path) -> Iterator[Path]:
    """The socket of a server of one bundle, which it takes away at its end."""
    words = [*SERVE, str(tiny_bundle), "--socket", str(place), "--threads", "1", "--backend", "cpu"]
    started = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        assert started.stderr is not None
        line = started.stderr.readline()
        assert line.endswith(f"listening at http://{place}\n"), line
        yield place
        started.send_signal(signal.SIGTERM)
        assert started.wait(SECONDS) == 0 and not place.exists()
    finally:
        started.kill()
        started.communicate()


def said(*words: str | Path) -> str:
    """The one line of a program that refuses, beside those of the steps until then."""
    ran = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ran.returncode == 2 and not ran.stdout, ran.stderr
    (line,) = (line for line in ran.stderr.splitlines() if line and not line.startswith("step "))
    return line


def test_it_is_short() -> None:
    assert len(SOURCE.read_text("utf-8").splitlines()) <= 250


def test_it_draws_what_run_draws(client: Path, server: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    prompt = 'une "pomme" rouge\\'
    words = (client, server, tiny_bundle.name, tmp_path / "c.png", prompt, *OPTIONS)
    ran = subprocess.run(words, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout == f"{tmp_path / 'c.png'}\n" and "step 4 of 4" in ran.stderr
    options = ("--language", "French", "--steps", "4", "--size", "64x72", "--sampler", "euler")
    run_bytes(tmp_path / "run.png", tiny_bundle, prompt, *options)
    drawn, wanted = (Image.open(tmp_path / name) for name in ("c.png", "run.png"))
    assert np.array_equal(np.asarray(drawn), np.asarray(wanted)) and drawn.info["parameters"].startswith(prompt)


def test_it_refuses_in_one_line(client: Path, server: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.png"
    assert "start x2i serve" in said(client, tmp_path / "none", "a", out, "rot")
    assert "fewer than" in said(client, "/" + "x" * 200, "a", out, "rot")
    assert "got no =" in said(client, server, tiny_bundle.name, out, "rot", "steps")
    assert "steps: expected" in said(client, server, tiny_bundle.name, out, "rot", "language=French", "steps=-1")
    assert "nothing" in said(client, server, "nothing", out, "rot")
    lost = tmp_path / "no" / "a.png"
    assert str(lost) in said(client, server, tiny_bundle.name, lost, "rot", *OPTIONS)
    assert not list(tmp_path.iterdir())


def test_the_socket_is_its_owners(server: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    assert stat.S_IMODE(server.stat().st_mode) == 0o600
    (tmp_path / "file").write_text("kept")
    assert "where nothing is" in said(*SERVE, tiny_bundle, "--socket", server)
    assert "where nothing is" in said(*SERVE, tiny_bundle, "--socket", tmp_path / "file")
    assert "where nothing is" in said(*SERVE, tiny_bundle, "--socket", tmp_path / ("x" * 120))
    assert "leave one of the two out" in said(*SERVE, tiny_bundle, "--socket", tmp_path / "s", "--port", "0")
    assert os.listdir(tmp_path) == ["file"] and server.is_socket()
