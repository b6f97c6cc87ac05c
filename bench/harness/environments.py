"""An environment for every stack, set up once, with the versions of bench/NAME.txt."""

import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
BUILD = {"sdcpp": {"CMAKE_ARGS": "-DGGML_NATIVE=ON"}}
"""Settings of what is compiled here: for this machine's own instructions."""
PREPARED = {"x2i": ("-m", "x2i.kernels.build", "--for", "cpu")}
"""What is run in an environment before anybody is measured in it: the kernel is compiled as the sources are now."""
REMOVED = {"openvino-export": ("torchvision",)}
"""What a package index may serve for another build of torch, and nothing here uses."""


class SetupError(Exception):
    """An environment or a folder could not be made; the message is the last line of the program that failed."""


@dataclass(frozen=True, slots=True)
class Environments:
    """Python interpreters by the name of their environment, below `home`."""

    home: Path

    def python(self, name: str) -> Path:
        """The interpreter; its environment is made now if it is not there, or if its versions changed.

        Raises SetupError where that fails.
        """
        wanted = (ROOT / "bench" / f"{name}.txt").read_text(encoding="utf-8")
        folder = self.home / name
        stamp, python = folder / ".versions", folder / "bin" / "python"
        if not stamp.exists() or stamp.read_text(encoding="utf-8") != wanted:
            run_program([sys.executable, "-P", "-m", "venv", "--clear", str(folder)])
            run_program([str(python), "-m", "pip", "install", "-r", f"bench/{name}.txt"], **BUILD.get(name, {}))
            if unwanted := REMOVED.get(name):
                run_program([str(python), "-m", "pip", "uninstall", "-y", *unwanted])
            stamp.write_text(wanted, encoding="utf-8")
        if name in PREPARED:
            _prepare(python, PREPARED[name])
        return python


@cache
def _prepare(python: Path, words: tuple[str, ...]) -> None:
    run_program([str(python), *words])


def run_program(command: list[str], **environment: str) -> str:
    """What a program, started in the repository's root, prints. Raises SetupError with its last line when it fails."""
    process = subprocess.run(
        command, cwd=ROOT, env=child_environment() | environment, capture_output=True, text=True, errors="replace"
    )
    if process.returncode:
        raise SetupError(last_line(process.stderr) or f"exit code {process.returncode}")
    return process.stdout


def child_environment() -> dict[str, str]:
    """The caller's environment with all cores, no downloads by name, no telemetry, and the benchmark's own modules."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OMP_"))}
    own = {"PYTHONPATH": str(ROOT / "bench"), "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    return {"ORT_DISABLE_TELEMETRY": "1"} | kept | own


def last_line(text: str) -> str:
    """The last line that is not blank, without the blanks around it; empty where there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
