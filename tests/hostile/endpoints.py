"""Requests that schemathesis draws from a server's own schema, good ones and bad ones: none may end in a 5xx, or in
what the schema does not tell."""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.runtime.server.running import Running, running

LIMITS = {"steps": 3, "pixels": 64 * 64, "pictures": 2, "prompt_length": 100, "seconds": 30.0, "keep_seconds": 30.0}
"""What is drawn goes up to the schema's own bounds, and is to be quick."""
# What a schema cannot tell is refused as well: that a file is a picture, or which steps a sampler takes.
EXCLUDED = "positive_data_acceptance"


def fuzz(bundles: Sequence[Path], examples: int, phases: str = "coverage,fuzzing,stateful") -> tuple[int, str]:
    """How many requests were tried of a server of some bundles, and what schemathesis says of those that failed;
    nothing where all held."""
    with running(*bundles, **LIMITS) as server:
        told = _ran(server, examples, phases)
        failed = server.service.metrics.text()
        assert server.get("/health/ready").status == 200
    (cases,) = re.findall(r"(\d+) generated", told.stdout) or ["0"]
    assert b'state="failed"' not in failed, failed.decode()
    return int(cases), told.stdout if told.returncode else ""


def _ran(server: Running, examples: int, phases: str) -> subprocess.CompletedProcess[str]:
    program = "from schemathesis.cli import schemathesis; schemathesis()"
    words = [sys.executable, "-c", program, "run", f"{server.url}/openapi.json"]
    words += ["--max-examples", str(examples), "--phases", phases, "--exclude-checks", EXCLUDED]
    words += ["--generation-deterministic", "--workers", "1", "--request-timeout", "60", "--no-color"]
    return subprocess.run(words, capture_output=True, text=True, check=False)
