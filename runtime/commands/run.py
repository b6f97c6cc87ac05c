"""`x2i run`: draw pictures with a bundle."""

from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..errors import InputError
from ..files.writing import check_folder_of, save_whole
from ..load import load
from ..output import Output, check_picture_path, save_picture
from .console import announce, command, echo_json, warned
from .options import FILE, backend_option, given_keywords, run_keywords, text_bundle_option, threads_option
from .progress import bars, echo, progress_bar


@command()
@click.argument("bundle", type=FILE)
@click.argument("prompt", required=False)
@run_keywords()
@text_bundle_option
@backend_option
@threads_option
@click.option("--max-memory", help="Memory that drawing may take, such as 4GB: graphs are opened and closed in turns.")
@click.option("--out", type=FILE, default="out.png", show_default=True, help="Picture file.")
@click.option("--save-latents", type=FILE, help="Also save the latents: .npy, float32.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def run(
    bundle: Path,
    prompt: str | None,
    text_bundle: Path | None,
    backend: str | None,
    threads: int | None,
    max_memory: str | None,
    out: Path,
    save_latents: Path | None,
    as_json: bool,
    **values: Any,
) -> None:
    """Draw PROMPT, or a sound, with the folder BUNDLE. What is left out comes from the bundle's plan."""
    check_picture_path(out)
    if text_bundle is not None and prompt is None:
        raise InputError("prompt: expected the text that --text-bundle reads, got none; give PROMPT")
    if save_latents is not None:
        if save_latents.suffix != ".npy":
            raise InputError(f"--save-latents: expected a name such as latents.npy, got {save_latents}")
        check_folder_of(save_latents)
    with warned():
        pipeline = load(
            bundle, backend, threads, text_bundle=text_bundle, preset=values["preset"], max_memory=max_memory
        )
    announce(pipeline, backend)
    keywords = given_keywords(pipeline.bundle.manifest.plan.options(), values)
    with warned(), bars(not as_json), progress_bar("drawing", unit="step") as bar:
        output = pipeline(prompt, on_step=lambda step: bar.move_to(step.index + 1, step.count), **keywords)
    paths = _save(output, out, save_latents)
    if as_json:
        seconds = {stage: round(value, 4) for stage, value in output.timings.items()}
        echo_json({"images": [str(p) for p in paths], "seconds": seconds, "warnings": output.warnings})
        return
    for path in paths:
        echo(str(path))
    echo("  ".join(f"{stage} {value:.2f} s" for stage, value in output.timings.items()))


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
