"""Runs programs as a user would: their own process, the caller's environment without its Python settings."""

import os
import re
import subprocess
from pathlib import Path


def run(*command: str | Path, cwd: Path, code: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """The finished process; fails with all it printed unless its exit code is `code`."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    process = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=inherited | environment, capture_output=True, text=True
    )
    said = f"{' '.join(map(str, command))}\n{process.stdout}{process.stderr}"
    assert process.returncode == code, f"exit code {process.returncode}, expected {code}: {said}"
    return process


def imported(trace: str) -> set[str]:
    """The modules that a Python process imported: `trace` is its stderr under PYTHONPROFILEIMPORTTIME=1."""
    return {found[1] for found in re.finditer(r"^import time:.*\| +(\S+)$", trace, re.MULTILINE)}
