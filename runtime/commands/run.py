"""`x2i run`: draw pictures with a bundle."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..errors import InputError
from ..files import check_folder_of, save_whole
from ..output import Output, check_picture_path, save_picture
from .console import load_announced, refusing, warned
from .options import Size, adapter_options, pictures_for


@click.command()
@click.argument("bundle", type=click.Path(path_type=Path))
@click.argument("prompt", required=False)
@adapter_options
@click.option("--language", help="Language of the prompt, for a bundle with translators.")
@click.option("--negative", default="", help="Text to steer away from.")
@click.option("--steps", type=int, help="Denoising steps.")
@click.option("--guidance", type=float, help="Guidance scale; 1 switches it off.")
@click.option("--sampler", help="Sampler name.")
@click.option("--preset", help="A preset of the bundle, such as fast; x2i inspect lists them.")
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the start noise.")
@click.option("--noise", type=click.Path(path_type=Path), help="Start noise instead: .npy, float32 [count, C, h, w].")
@click.option("--size", type=Size(), help="Height and width in pixels.")
@click.option("--count", type=int, help="Pictures to draw; picture k has seed + k.")
@click.option("--backend", help="What runs the graphs, such as cpu or openvino:GPU; the best present if left out.")
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; all cores if left out.")
@click.option("--max-memory", help="Memory that drawing may take, such as 4GB: graphs are opened and closed in turns.")
@click.option("--out", type=click.Path(path_type=Path), default="out.png", show_default=True, help="Picture file.")
@click.option("--save-latents", type=click.Path(path_type=Path), help="Also save the latents: .npy, float32.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def run(
    bundle: Path,
    prompt: str | None,
    backend: str | None,
    threads: int | None,
    out: Path,
    save_latents: Path | None,
    as_json: bool,
    noise: Path | None,
    subject: tuple[Path, ...],
    image: tuple[Path, ...],
    text_bundle: Path | None,
    preset: str | None,
    max_memory: str | None,
    **options: Any,
) -> None:
    """Draw PROMPT, or a sound, with the folder BUNDLE. What is left out comes from the bundle's plan."""
    with refusing(InputError, OSError, MemoryError):
        check_picture_path(out)
        if text_bundle is not None and prompt is None:
            raise InputError("prompt: expected the text that --text-bundle reads, got none; give PROMPT")
        if save_latents is not None:
            if save_latents.suffix != ".npy":
                raise InputError(f"--save-latents: expected a name such as latents.npy, got {save_latents}")
            check_folder_of(save_latents)
        pipeline = load_announced(bundle, backend, threads, text_bundle, preset, max_memory)
        options |= pictures_for(pipeline.bundle.manifest.plan.options(), subject, image)
        with warned():
            output = pipeline(prompt, noise=_read_noise(noise), **options)
        paths = _save(output, out, save_latents)
    if as_json:
        seconds = {stage: round(value, 4) for stage, value in output.timings.items()}
        click.echo(json.dumps({"images": [str(p) for p in paths], "seconds": seconds, "warnings": output.warnings}))
        return
    for path in paths:
        click.echo(str(path))
    click.echo("  ".join(f"{stage} {value:.2f} s" for stage, value in output.timings.items()))


def _read_noise(path: Path | None) -> np.ndarray | None:
    if path is None:
        return None
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"--noise {path}: expected a .npy file of float32 numbers, got {error}") from error


def _save(output: Output, out: Path, save_latents: Path | None) -> list[Path]:
    """One picture goes to `out`; several get -1, -2, ... before the suffix."""
    paths = [out]
    if len(output.images) > 1:
        paths = [out.with_name(f"{out.stem}-{i + 1}{out.suffix}") for i in range(len(output.images))]
    for path, image in zip(paths, output.images, strict=True):
        save_whole(path, partial(save_picture, image, path.suffix))
    if save_latents is not None:
        save_whole(save_latents, lambda stream: np.save(stream, output.latents))
    return paths
