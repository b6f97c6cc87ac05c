"""`python -m x2i.emoji.judges.few_steps`: what few steps, no guidance and a tiny decoder cost the embedded models'
pictures."""

from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from x2i.runtime import Pipeline, load
from x2i.runtime.gate.metrics import psnr
from x2i.runtime.output import to_images

from ..embedded import EMBEDDED, FEW_STEPS, embedded
from ..eval_prompts import evaluation_grid
from ..gate import EmojiJudge
from ..world.captions import caption
from ..world.judge import judge
from ..world.vocabulary import languages, picture_keys, scene
from .precision import means_of
from .report import Score, contact_sheet, draw_world

STEPS = (4, 2, 1)
UNDISTILLED: dict[str, Any] = {"sampler": "lcm", "guidance": 1.0}
"""The base as it is, sampled as the distilled one is: what the LoRA is worth."""
ADAPTERS = ("elite", "fastcomposer")
SHOWN = 8


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder.")
def judge_few_steps(out: Path) -> None:
    """Draw every picture of the embedded models' world in 4, 2 and 1 steps, in every language, with ELITE's and
    FastComposer's subjects and by the tiny decoder, beside 20 steps and beside the base that is not distilled, and save
    OUT/few-steps.png."""
    base, text = _usual("sd", out), _in_few_steps("gluegen-text", out)
    click.echo(f"{'':34} {'picture':>8} {'background':>12} {'drawings':>9} {'PSNR to the scene':>18}")
    rows = {"20 steps": _row("English (CLIP), 20 steps", base, "English")}
    few = _in_few_steps("sd", out)
    for steps in STEPS:
        rows[f"{steps} steps"] = _row(f"English (CLIP), {steps} steps", few, "English", steps=steps)
        _row(f"  the base without the LoRA, {steps}", base, "English", steps=steps, **UNDISTILLED)
    for steps in STEPS[:2]:
        for language in languages():
            _row(f"{language}, {steps} steps", text, language, language=language, steps=steps)
    for system in ADAPTERS:
        _judge_adapter(system, out)
    rows["tiny decoder"] = _judge_decoder(few, base)
    sheet = {label: images[:: len(images) // SHOWN + 1][:SHOWN] for label, images in rows.items()}
    contact_sheet(sheet, list(picture_keys())[:: len(picture_keys()) // SHOWN + 1]).save(out / "few-steps.png")
    click.echo(f"contact sheet: {out / 'few-steps.png'}")


def _usual(system: str, out: Path) -> Pipeline:
    plan_of, name = EMBEDDED[system]
    return load(embedded(plan_of, out / name, click.echo))


def _in_few_steps(system: str, out: Path) -> Pipeline:
    plan_of, name = FEW_STEPS[system]
    return load(embedded(plan_of, out / name, click.echo))


def _row(label: str, pipeline: Pipeline, spoken: str, **options: Any) -> list[Image.Image]:
    score, images = draw_world(pipeline, spoken, **options)
    click.echo(f"{label:34} {score} {_closeness(images):15.1f} dB")
    return images


def _closeness(images: list[Image.Image]) -> float:
    """Mean PSNR of drawings of every picture, in `evaluation_grid`'s order, to the scenes that they should show."""
    grid = evaluation_grid(picture_keys(), 1)
    return float(
        np.mean([psnr(np.asarray(image), scene(key, at)) for image, (key, at, _) in zip(images, grid, strict=True)])
    )


def _judge_adapter(system: str, out: Path) -> None:
    few, usual = _in_few_steps(system, out), _usual(system, out)
    score = EmojiJudge().against(usual.bundle.manifest, usual)
    for steps in STEPS[:2]:
        judged = score(lambda steps=steps, **options: few(**options, steps=steps))
        before, after, *_ = means_of(judged)
        click.echo(f"{system}, {steps} steps: {after:.1%} right of {judged.drawings}, in 20 steps {before:.1%}")


def _judge_decoder(tiny: Pipeline, whole: Pipeline) -> list[Image.Image]:
    """The drawings of a bundle with a tiny decoder, beside the same latents by the whole one."""
    scores, images, near = (Score(), Score()), [], []
    for key, colour, seed in evaluation_grid(picture_keys(), 1):
        output = tiny(caption("English", key, colour), seed=seed)
        assert output.latents is not None, "a bundle that walks latents"
        decoded = to_images(whole.session("decoder")(latents=output.latents)["image"], "round")[0]
        near.append(psnr(np.asarray(output.images[0]), np.asarray(decoded)))
        for score, image in zip(scores, (output.images[0], decoded), strict=True):
            score.add(judge(np.asarray(image)), key, colour)
        images.append(output.images[0])
    click.echo(f"{'tiny decoder':34} {scores[0]}   {np.mean(near):.1f} dB to the VAE's, worst {min(near):.1f}")
    click.echo(f"{'the VAE, of the same latents':34} {scores[1]}")
    return images


if __name__ == "__main__":
    judge_few_steps()
