"""`x2i run`: draw pictures with a bundle."""

from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np

from ..errors import InputError
from ..files.writing import Write, check_targets, save_all
from ..inputs.sampling import MOST_PICTURES
from ..load import load
from ..output import Output, check_picture_name, save_picture
from .console import announce, command, echo_json, warned
from .options import FILE, backend_option, given_keywords, input_files, run_keywords, text_bundle_option, threads_option
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
    if text_bundle is not None and prompt is None:
        raise InputError("prompt: expected the text that --text-bundle reads, got none; give PROMPT")
    if save_latents is not None and save_latents.suffix != ".npy":
        raise InputError(f"--save-latents: expected a name such as latents.npy, got {save_latents}")
    check_picture_name(out)
    read, bundles = input_files(values), [path for path in (bundle, text_bundle) if path is not None]
    # A number out of its range is refused with the other options.
    count = min(max(values["count"] or 1, 1), MOST_PICTURES)
    check_targets([*_picture_paths(out, count), *([] if save_latents is None else [save_latents])], read, bundles)
    with warned():
        pipeline = load(
            bundle, backend, threads, text_bundle=text_bundle, preset=values["preset"], max_memory=max_memory
        )
    announce(pipeline, backend)
    keywords = given_keywords(pipeline.bundle.manifest.plan.options(), values)
    with warned(), bars(not as_json), progress_bar("drawing", unit="step") as bar:
        output = pipeline(prompt, on_step=lambda step: bar.move_to(step.index + 1, step.count), **keywords)
    paths = _picture_paths(out, len(output.images))
    # A noise file may hold more pictures than were asked for.
    check_targets(paths, read, bundles)
    _save(output, paths, save_latents)
    if as_json:
        seconds = {stage: round(value, 4) for stage, value in output.timings.items()}
        echo_json({"images": [str(p) for p in paths], "seconds": seconds, "warnings": output.warnings})
        return
    for path in paths:
        echo(str(path))
    echo("  ".join(f"{stage} {value:.2f} s" for stage, value in output.timings.items()))


def _picture_paths(out: Path, count: int) -> list[Path]:
    """One picture goes to `out`; several get -1, -2, ... before the suffix."""
    return [out] if count == 1 else [out.with_name(f"{out.stem}-{i + 1}{out.suffix}") for i in range(count)]


def _save(output: Output, paths: list[Path], save_latents: Path | None) -> None:
    """All files, or none."""
    writes: dict[Path, Write] = {
        path: partial(save_picture, image, path.suffix) for path, image in zip(paths, output.images, strict=True)
    }
    if save_latents is not None:
        writes[save_latents] = lambda stream: np.save(stream, output.latents)
    save_all(writes)
