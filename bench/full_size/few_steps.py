"""`python -m full_size.few_steps`: Stable Diffusion 1.5 from a prompt to pixels in four steps without guidance and
by a tiny decoder, beside OpenVINO GenAI and stable-diffusion.cpp."""

import json
import statistics
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
from harness.answers import Answer, AnswerStore, ask_peer, peer_job
from harness.cases import CASES
from harness.contestants import Contestant
from harness.environments import Environments, SetupError
from harness.folders import Folders
from harness.table import lines_of
from x2i.runtime.gate.metrics import relative_l2
from x2i.runtime.machine import processor

CASE = replace(
    CASES["sd15-512"], name="sd15-512 in few steps", guidance=1.0, warm=1, steps=2, picture_steps=4, rounds=3
)
TINY = {"taesd": "../tiny-vae/diffusion_pytorch_model.safetensors"}
OPENVINO: dict[str, Any] = {"backend": "openvino"}
REFERENCE = Contestant("x2i openvino, fp32", "x2i_bundle", "x2i", "few-steps", OPENVINO, "lcm", ours=True)
CONTESTANTS = (
    REFERENCE,
    replace(REFERENCE, name="x2i openvino, int8", folder="few-steps-int8"),
    replace(
        REFERENCE,
        name="x2i openvino, int8, ELITE",
        folder="few-steps-elite-int8",
        options=OPENVINO | {"stand_ins": True},
    ),
    Contestant("OpenVINO GenAI, int8 (NNCF), its VAE", "genai", "openvino-genai", "openvino-int8", sampler="lcm"),
    Contestant(
        "stable-diffusion.cpp, q8_0, flash, direct, TAESD",
        "sdcpp",
        "sdcpp",
        "diffusers",
        {"type": "q8_0", "flash": True, "direct": True, **TINY},
        "lcm",
    ),
)
HEADS = ("", "picture, s", "spread", "load and first picture, s", "peak, GB", "latents off by")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/bench"), show_default=True)
@click.option("--full", type=click.Path(path_type=Path), default=Path("build/full"), show_default=True)
@click.option("--only", default="", help="Contestants whose names contain this.")
def few_steps(out: Path, full: Path, only: str) -> None:
    """Ask everybody in turns, each turn in a process of its own, and print the table."""
    out, full = out.absolute(), full.absolute()
    environments = Environments(out / "environments")
    folders, store = Folders(out / "models", full, environments), AnswerStore(out / "few-steps.json")
    chosen = [contestant for contestant in CONTESTANTS if only in contestant.name]
    for number in range(CASE.rounds):
        for contestant in chosen:
            name = f"{contestant.name}: turn {number + 1}"
            answer = store.answer(name, partial(_turn, contestant, folders, environments, out))
            click.echo(f"{name}: {json.dumps({key: value for key, value in answer.items() if key != 'versions'})}")
    click.echo("\n".join(_report(chosen, store, out)))


def _turn(contestant: Contestant, folders: Folders, environments: Environments, out: Path) -> Answer:
    try:
        python = environments.python(contestant.environment)
        folders("sd15", "tiny-vae")
        model = folders("sd15", contestant.folder)
    except SetupError as error:
        return {"failed": str(error)}
    return ask_peer(contestant, python, peer_job(contestant, CASE, model, _place(out, contestant), picture=True))


def _place(out: Path, contestant: Contestant) -> Path:
    plain = "".join(letter if letter.isalnum() else "-" for letter in contestant.name.lower())
    return out / "drawn" / "few-steps" / plain


def _report(chosen: list[Contestant], store: AnswerStore, out: Path) -> Iterator[str]:
    """Markdown of the figures, and the machine."""
    cells, others, versions = [], list[float](), dict[str, str]()
    for contestant in chosen:
        turns = [store.answers[f"{contestant.name}: turn {number + 1}"] for number in range(CASE.rounds)]
        failed = next((turn["failed"] for turn in turns if "failed" in turn), None)
        if failed is not None:
            cells.append([contestant.name, failed, "", "", "", ""])
            continue
        times = [turn["picture"] for turn in turns]
        opened = statistics.median(turn["load"] + turn["first_picture"] for turn in turns)
        peak = max(turn["peak_bytes"] for turn in turns) / 1e9
        spread = f"{min(times):.2f} to {max(times):.2f}"
        off = _off(_place(out, contestant), _place(out, REFERENCE))
        cells.append([contestant.name, f"{statistics.median(times):.2f}", spread, f"{opened:.1f}", f"{peak:.1f}", off])
        others += [turn["others"] for turn in turns]
        versions |= {f"{name} {number}": "" for turn in turns for name, number in turn["versions"].items() if number}
    yield from lines_of(list(HEADS), cells)
    yield f"{processor()}. {', '.join(sorted(versions))}."
    if others:
        yield f"Other programs kept {min(others):.2f} to {max(others):.2f} cores busy in the second before a turn."


def _off(actual: Path, expected: Path) -> str:
    """The relative L2 of the latents, where both stacks show them and drew from the same noise."""
    paths = [folder / "picture-latents.npy" for folder in (actual, expected)]
    if not all(path.exists() for path in paths):
        return ""
    return f"{relative_l2(*(np.load(path, allow_pickle=False) for path in paths)):.3f}"


if __name__ == "__main__":
    few_steps()
