"""A contestant's answer to one turn, which it takes in a process of its own; and the file that keeps the answers."""

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from harness.cases import Case
from harness.contestants import Contestant
from harness.environments import ROOT, child_environment, last_line

PEERS = ROOT / "bench" / "peers"
Answer = dict[str, Any]
"""What `peers.protocol.answer` prints, and `others`; or `failed`, with the reason."""


def peer_job(contestant: Contestant, case: Case, model: Path, out: Path, picture: bool) -> dict[str, Any]:
    """The fields of the `peers.protocol.PeerJob` that the peer is asked; its start noise is written into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    noise = out / "noise.npy"
    np.save(noise, start_noise(case))
    return {
        "model": str(model),
        "noise": str(noise),
        "seed": case.seed,
        "prompt": case.prompt,
        "guidance": case.guidance,
        "height": case.height,
        "width": case.width,
        "sampler": contestant.sampler,
        "warm": case.warm,
        "steps": case.steps,
        "picture_steps": case.picture_steps if picture else 0,
        "threads": os.cpu_count() or 1,
        "out": str(out),
        "options": contestant.options,
    }


def start_noise(case: Case) -> np.ndarray:
    """The case's start noise, float32: torch's own, for one peer takes a seed alone, and repeats torch's generator."""
    import torch

    return torch.randn(case.noise_shape, generator=torch.Generator().manual_seed(case.seed)).numpy()


def busy_cores() -> float:
    """How many cores all programs together keep busy, over a second."""
    before = _busy_seconds()
    time.sleep(1)
    return _busy_seconds() - before


def _busy_seconds() -> float:
    """Processor seconds since the start, over all cores, that were not idle or waiting for the disk."""
    fields = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]
    user, nice, system, _, _, *interrupts = map(int, fields)
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def ask_peer(contestant: Contestant, python: Path, asked: dict[str, Any]) -> Answer:
    """The peer's answer and how many cores others kept busy before, or `failed` with a reason; it takes minutes."""
    out = Path(asked["out"])
    for old in out.glob("*-*.npy"):
        old.unlink()
    question = out / "job.json"
    question.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    command = [str(python), str(PEERS / f"{contestant.peer}.py"), str(question)]
    others = busy_cores()
    environment = child_environment()
    process = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True, errors="replace")
    (out / "said.txt").write_text(process.stdout + process.stderr, encoding="utf-8")
    if process.returncode:
        return {"failed": last_line(process.stderr) or f"ended with exit code {process.returncode}"}
    try:
        answer: Answer = json.loads(last_line(process.stdout))
    except ValueError:
        return {"failed": f"expected an answer in JSON, got {last_line(process.stdout) or 'nothing'!r}"}
    return answer | {"others": others}


class AnswerStore:
    """Answers by name in a JSON file, written as they come, so that a second run goes on where the first stopped.

    What is in the file is not measured again, except for failures, which may have gone.
    """

    def __init__(self, path: Path):
        self._path = path
        self.answers = self._read()

    def forget(self, name: str) -> None:
        """Has the next call of `answer` measure anew; the file keeps the old answer until then."""
        self.answers.pop(name, None)

    def answer(self, name: str, measure: Callable[[], Answer]) -> Answer:
        """The answer of that name, measured now if it is missing or failed before."""
        if name not in self.answers or "failed" in self.answers[name]:
            measured = measure()
            # Others may have added theirs in the meantime.
            self.answers = self._read() | {name: measured}
            written = self._path.with_suffix(".partial")
            written.write_text(json.dumps(self.answers, indent=1) + "\n", encoding="utf-8")
            written.replace(self._path)
        return self.answers[name]

    def _read(self) -> dict[str, Answer]:
        return json.loads(self._path.read_text("utf-8")) if self._path.exists() else {}
