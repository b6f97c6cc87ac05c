"""One turn of one contestant: a process of its own, and its answer."""

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np

from harness.cases import Case
from harness.contestants import Contestant
from harness.environments import ROOT, last_line, surroundings

PEERS = ROOT / "bench" / "peers"


def job(contestant: Contestant, case: Case, model: Path, out: Path, picture: bool) -> dict[str, Any]:
    """What the peer is asked, in the words of `peers.protocol.Job`; its start noise is written."""
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
    """torch's own, for one peer takes a seed alone, and repeats torch's generator."""
    import torch

    return torch.randn(case.noise_shape, generator=torch.Generator().manual_seed(case.seed)).numpy()


def busy_cores() -> float:
    """How many cores all programs together keep busy, over a second."""
    before = _busy_seconds()
    time.sleep(1)
    return _busy_seconds() - before


def _busy_seconds() -> float:
    """Processor seconds since the start, over all cores, that were not idle or waiting for the disk."""
    told = Path("/proc/stat").read_text(encoding="utf-8").splitlines()[0].split()[1:9]
    user, nice, system, _, _, *interrupts = map(int, told)
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def taken(contestant: Contestant, python: Path, asked: dict[str, Any]) -> dict[str, Any]:
    """The peer's answer and how many cores others kept busy before, or `failed` with a reason."""
    out = Path(asked["out"])
    for old in out.glob("*-*.npy"):
        old.unlink()
    question = out / "job.json"
    question.write_text(json.dumps(asked, indent=1) + "\n", encoding="utf-8")
    command = [str(python), str(PEERS / f"{contestant.peer}.py"), str(question)]
    others = busy_cores()
    process = subprocess.run(command, cwd=out, env=surroundings(), capture_output=True, text=True, errors="replace")
    (out / "said.txt").write_text(process.stdout + process.stderr, encoding="utf-8")
    if process.returncode:
        return {"failed": last_line(process.stderr) or f"ended with exit code {process.returncode}"}
    try:
        facts: dict[str, Any] = json.loads(last_line(process.stdout))
    except ValueError:
        return {"failed": f"expected an answer in JSON, got {last_line(process.stdout) or 'nothing'!r}"}
    return facts | {"others": others}
