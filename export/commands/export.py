"""`x2i export`: the command line over `export_bundle`."""

from pathlib import Path
from typing import Any

import click
from x2i.runtime.commands.console import command
from x2i.runtime.commands.options import FILE
from x2i.runtime.commands.progress import bars, echo
from x2i.runtime.errors import InputError
from x2i.runtime.items.sequence import ENCODINGS, Encoding
from x2i.runtime.items.weights import WEIGHTINGS, Weighting
from x2i.runtime.lora.choice import LoraChoice, parse_lora

from ..sampling.few_step import FEW_STEPS
from ..systems.registry import SYSTEMS
from .options import lowering_options, require_extra

FEW_STEP = (
    "The base was distilled to draw in 1 to 8 steps without guidance: by latent consistency (lcm, tcd), or for its own "
    "scheduler."
)
PART = "A part of the system; repeatable. Leave it out to be told which there are."

LORA = "A LoRA's file or folder, added to the base with this weight (1 without); repeatable."


def _parts(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> dict[str, Path]:
    parts: dict[str, Path] = {}
    for value in values:
        name, equals, path = value.partition("=")
        if not equals or not name or not path:
            raise click.BadParameter(f"expected NAME=PATH, got {value!r}")
        if name in parts:
            raise click.BadParameter(f"expected each part once, got {name} twice")
        parts[name] = Path(path)
    return parts


def _loras(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[LoraChoice, ...]:
    try:
        return tuple(map(parse_lora, values))
    except InputError as error:
        raise click.BadParameter(str(error)) from error


def _boundaries(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[float, ...]:
    try:
        found = tuple(float(part) for part in (value or "").split(",") if part.strip())
    except ValueError as error:
        raise click.BadParameter(f"expected timesteps with commas between them, got {value!r}") from error
    if any(not abs(part) < float("inf") for part in found):
        raise click.BadParameter(f"expected finite timesteps, got {value!r}")
    return found


@command(help=f"Export SYSTEM ({', '.join(SYSTEMS)}) to the bundle folder OUT.")
@click.argument("system")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--base", help="Stable Diffusion: a diffusers folder, a hub name, or a CompVis .ckpt/.safetensors.")
@click.option("--base-config", type=click.Path(path_type=Path), help="Configuration of a CompVis base (YAML or JSON).")
@click.option("--part", "parts", multiple=True, callback=_parts, metavar="NAME=PATH", help=PART)
@click.option("--lora", "loras", multiple=True, callback=_loras, metavar="PATH[:WEIGHT]", help=LORA)
@click.option("--random-weights", metavar="VARIANT", help="Full-size random weights (sd15), for measuring.")
@click.option("--sampler", help="The bundle's default sampler, instead of the system's.")
@click.option("--steps", type=int, help="The bundle's default number of steps.")
@click.option("--guidance", type=float, help="The bundle's default guidance scale.")
@click.option(
    "--clip-skip",
    type=click.IntRange(min=0),
    help="Last layers of CLIP's text encoder that the prompt leaves out, as in diffusers: its 1 is other programs' 2.",
)
@click.option("--few-step", type=click.Choice(FEW_STEPS), help=FEW_STEP)
@click.option("--decoder", type=FILE, help="A tiny autoencoder (TAESD) that decodes instead of the base's VAE.")
@click.option("--preview-decoder", type=FILE, help="A tiny autoencoder that decodes the steps that are shown.")
@click.option("--inpainting", is_flag=True, help="The base is one for inpainting: its UNet reads a mask, too.")
@click.option(
    "--boundaries",
    callback=_boundaries,
    metavar="TIMESTEP[,TIMESTEP]",
    help="Timesteps below which the next of several experts takes over, from the noisiest on: 600,300.",
)
@click.option("--encoding", type=click.Choice(ENCODINGS), help="How m-vader reads items where a run does not say.")
@click.option("--weighting", type=click.Choice(WEIGHTINGS), help="What an item's weight does where a run does not say.")
@click.option("--licence", "licences", multiple=True, help="A licence of the weights, kept in the manifest.")
@lowering_options
def export(
    system: str,
    out: Path,
    base: str | None,
    base_config: Path | None,
    parts: dict[str, Path],
    loras: tuple[LoraChoice, ...],
    random_weights: str | None,
    sampler: str | None,
    steps: int | None,
    guidance: float | None,
    clip_skip: int | None,
    few_step: str | None,
    decoder: Path | None,
    preview_decoder: Path | None,
    inpainting: bool,
    boundaries: tuple[float, ...],
    encoding: Encoding | None,
    weighting: Weighting | None,
    licences: tuple[str, ...],
    lowering: dict[str, Any],
) -> None:
    """Writes a bundle as `export_bundle` does; every problem is refused with exit code 2."""
    with require_extra("export", "export"):
        from ..exporter import export_bundle
        from ..lower.lowering import Lowering
        from ..plan import ExportPlan
    distilled = loras, few_step, decoder, preview_decoder
    composed = boundaries, encoding, weighting
    options = sampler, steps, guidance, licences, Lowering(**lowering), clip_skip, *distilled, inpainting, *composed
    plan = ExportPlan(system, out, base, base_config, parts, random_weights, *options)
    with bars():
        export_bundle(plan, echo)
