"""The kernels in Triton's interpreter, for the tests of every op."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

Interpreted = Callable[[str, list[dict[str, Any]]], list[Tensor]]


@pytest.fixture(scope="session")
def interpreter() -> Iterator[subprocess.Popen[str]]:
    """A process with Triton's interpreter; it takes seconds to start."""
    program = [sys.executable, str(Path(__file__).with_name("interpreted.py"))]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(program, env=environment, text=True, **pipes) as process:
        yield process
        process.communicate()
    assert process.returncode == 0


@pytest.fixture(scope="session")
def interpreted(interpreter: subprocess.Popen[str], tmp_path_factory: pytest.TempPathFactory) -> Interpreted:
    """Runs a form of `interpreted.FORMS` in the interpreter on each of some sets of its arguments."""

    def run(form: str, calls: list[dict[str, Any]]) -> list[Tensor]:
        file = tmp_path_factory.mktemp("interpreted") / "calls.pt"
        torch.save(calls, file)
        print(form, file, file=interpreter.stdin, flush=True)
        assert interpreter.stdout.readline() == "done\n", "the interpreter's process failed; see what it printed"
        outputs: list[Tensor] = torch.load(file, weights_only=True)
        return outputs

    return run
