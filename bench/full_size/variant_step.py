"""`python -m full_size.variant_step`: what a LoRA's inputs, or painted words, add to a step of Stable Diffusion 1.5's
UNet; and what folding a LoRA into its weights would take instead."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from diffusers import UNet2DConditionModel
from x2i.export.components.denoiser import denoiser_component
from x2i.export.graphs.graph_runs import RecordedCalls
from x2i.export.lora.target import changed_layers
from x2i.export.lora.variant_graph import changeable, write_lora_graph
from x2i.export.paint.variant_graph import write_paint_graph
from x2i.export.precision.int8 import to_int8
from x2i.export.to_onnx import Component, numpy_arrays, to_onnx
from x2i.models.random.weights import draw_weights
from x2i.runtime.inputs.lora import DOWN, UP, LoraLayer
from x2i.runtime.machine import processor, versions
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile, Session, Settings

WIDTHS = (320, 640, 1280, 1280)
SIZES = {"batch": 2, "height": 64, "width": 64, "tokens": 77}
SMALL = SIZES | {"height": 16, "width": 16}
Arrays = dict[str, np.ndarray]


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/variants"), show_default=True)
@click.option("--variant", type=click.Choice(("lora", "paint")), default="lora", show_default=True)
@click.option("--levels", type=click.IntRange(1, 4), default=4, show_default=True, help="Of the UNet, outermost first.")
@click.option("--rank", type=int, default=16, show_default=True, help="Of the LoRA.")
@click.option("--repeats", type=int, default=5, show_default=True)
@click.option("--int8/--fp32", "quantizes", help="Measure the graph in int8 instead.")
@click.option("--threads", type=int, default=1, show_default=True)
def variant_step(out: Path, variant: str, levels: int, rank: int, repeats: int, quantizes: bool, threads: int) -> None:
    """Time guided steps at 64 x 64 latents with and without a LoRA of all layers, or a map of words in all cross-
    attentions, in turns, by the processor's time. The plain graph that is in the folder already is kept."""
    out.mkdir(parents=True, exist_ok=True)
    unet = draw_weights(_unet(levels), 0)
    component = denoiser_component(unet)
    plain = _plain_graph(component, out, quantizes)
    cut = plain.with_name(f"{variant}.{plain.name}")
    example = component.example(SIZES)
    if variant == "paint":
        assert component.paint is not None
        layers, more = len(component.paint.layers), numpy_arrays(component.paint.example(example))
        write_paint_graph(plain, cut, component.paint.layers)
    else:
        assert component.lora is not None
        changed = changeable(plain, [layer for layer in component.lora.layers() if layer.pointwise])
        layers, more = len(changed), _factors(changed, rank)
        write_lora_graph(plain, cut, changed)
    click.echo(f"{processor()}, {versions(('onnxruntime', 'openvino'))}, {threads} threads, {layers} layers")
    arrays = numpy_arrays(example)
    for backend in ("cpu", "openvino"):
        sessions = [_opened(backend, path, quantizes, threads) for path in (plain, cut)]
        seconds = _in_turns([_call(sessions[0], arrays), _call(sessions[1], arrays | more)], repeats)
        without, with_it = map(statistics.median, seconds)
        click.echo(f"{backend}: {without:.2f} s a step, {with_it:.2f} s with it: {with_it / without - 1:+.1%}")
    if variant == "lora":
        click.echo(f"folding alone: {_folding_seconds(unet, rank):.2f} s")


def _plain_graph(component: Component, out: Path, quantizes: bool) -> Path:
    """The denoiser's graph, made where the folder has none."""
    plain, quantized = out / "denoiser.onnx", out / "int8.onnx"
    if not plain.is_file():
        to_onnx(component, plain)
    if quantizes and not quantized.is_file():
        _quantize(component, plain, quantized)
    return quantized if quantizes else plain


def _unet(levels: int) -> UNet2DConditionModel:
    """The outermost levels of the full UNet, with the depth of each."""
    cross = levels if levels < len(WIDTHS) else levels - 1
    down = ["CrossAttnDownBlock2D"] * cross + ["DownBlock2D"] * (levels - cross)
    return UNet2DConditionModel(
        sample_size=SIZES["height"],
        block_out_channels=WIDTHS[:levels],
        down_block_types=down,
        up_block_types=[kind.replace("Down", "Up") for kind in reversed(down)],
        cross_attention_dim=768,
        attention_head_dim=8,
    ).eval()


def _quantize(component: Component, plain: Path, quantized: Path) -> None:
    """Writes the graph with every layer in int8; its ranges are those of random inputs, which change no time."""
    call = quantized.with_name("call.npz")
    np.savez(call, **numpy_arrays(component.example(SMALL)))  # type: ignore[arg-type]
    calls = RecordedCalls((call,))
    to_int8(plain, quantized, calls, calls)


def _opened(backend: str, path: Path, quantizes: bool, threads: int) -> Session:
    graph = GraphFile("denoiser", path, "int8" if quantizes else "fp32", looped=True)
    return open_session(backend, graph, Settings(threads))


def _factors(layers: list[LoraLayer], rank: int) -> Arrays:
    random = np.random.default_rng(0)
    down, up = (sum(sizes) for sizes in zip(*((layer.width_in, layer.width_out) for layer in layers), strict=True))
    return {
        DOWN: random.standard_normal((down, rank), np.float32) * 0.01,
        UP: random.standard_normal((rank, up), np.float32) * 0.01,
    }


def _call(session: Session, arrays: Arrays) -> Callable[[], object]:
    moving = ("latents", "timestep")
    bound = session.bind(**{name: array for name, array in arrays.items() if name not in moving})
    return lambda: bound(**{name: arrays[name] for name in moving})


def _in_turns(calls: list[Callable[[], object]], repeats: int) -> list[list[float]]:
    """The processor's seconds of each, which a busy machine does not lengthen much; the first call is not counted."""
    seconds: list[list[float]] = [[] for _ in calls]
    for turn in range(repeats + 1):
        for call, found in zip(calls, seconds, strict=True):
            start = time.process_time()
            call()
            found += [time.process_time() - start] if turn else []
    return seconds


def _folding_seconds(unet: UNet2DConditionModel, rank: int) -> float:
    """Of adding the products of factors to all linear weights, in float32 and without writing them anywhere."""
    start = time.process_time()
    for layer in changed_layers(unet).values():
        weight = layer.weight.detach().numpy()
        if weight[0, 0].size == 1:
            rows, columns = weight.shape[:2]
            weight.reshape(rows, columns) + np.full((rows, rank), 0.1, np.float32) @ np.ones(
                (rank, columns), np.float32
            )
    return time.process_time() - start


if __name__ == "__main__":
    variant_step()
