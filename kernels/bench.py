"""`python -m x2i.kernels.bench`: the kernels' time beside torch's, at the sizes of Stable Diffusion 1.5."""

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import click
import torch
import triton
from torch import Tensor

from .biased_attention.launch import biased_attention_triton
from .biased_attention.reference import biased_attention, biased_attention_sdpa
from .injected_attention.launch import injected_attention_triton
from .injected_attention.reference import injected_attention, injected_attention_sdpa

Form = Callable[..., Tensor]
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
# Queries and channels of the cross-attention layers at 512 x 512 pixels.
LAYERS = ((64 * 64, 320), (32 * 32, 640), (16 * 16, 1280), (8 * 8, 1280))
HEADS, TOKENS, LOCAL_TOKENS = 8, 77, 256


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds: the median, the fifth and the ninety-fifth percentile."""

    median: float
    low: float
    high: float


def injected_inputs(batch: int, queries: int, channels: int, dtype: torch.dtype, device: str) -> tuple[Tensor, ...]:
    """The injected attention's inputs for one layer, random, with all samples of strength 0.6."""
    lengths = (queries, TOKENS, TOKENS, LOCAL_TOKENS, LOCAL_TOKENS)
    floats = _random(dtype, device, *((batch, length, channels) for length in lengths))
    return (*floats, torch.full((batch,), 5, device=device), torch.full((batch,), 0.6, device=device))


def biased_inputs(batch: int, queries: int, channels: int, dtype: torch.dtype, device: str) -> tuple[Tensor, ...]:
    """The biased attention's inputs for one layer, random, with all samples painted by both gains."""
    lengths = (queries, TOKENS, TOKENS)
    floats = _random(dtype, device, *((batch, length, channels) for length in lengths))
    bias, key_bias = _random(torch.float32, device, (batch, queries, TOKENS), (batch, TOKENS))
    return (*floats, bias.relu(), *torch.full((2, batch), 0.3, device=device), key_bias)


@dataclass(frozen=True, slots=True)
class TimedOp:
    """One op: what is timed, and the inputs for a layer of one size. `decomposed` is its plain formula in torch."""

    forms: Mapping[str, Form]
    inputs: Callable[[int, int, int, torch.dtype, str], tuple[Tensor, ...]]


MEASURED = {
    "injected": TimedOp(
        {
            "kernel": injected_attention_triton,
            "decomposed": injected_attention,
            "framework": injected_attention_sdpa,
        },
        injected_inputs,
    ),
    "biased": TimedOp(
        {
            "kernel": biased_attention_triton,
            "decomposed": biased_attention,
            "framework": biased_attention_sdpa,
        },
        biased_inputs,
    ),
}


@click.command()
@click.option(
    "--op", "ops", multiple=True, type=click.Choice(list(MEASURED)), default=list(MEASURED), show_default=True
)
@click.option("--batch", type=click.IntRange(1), default=2, show_default=True, help="Samples, all injected or painted.")
@click.option("--dtype", type=click.Choice(list(DTYPES)), default="float16", show_default=True)
def bench_kernels(ops: tuple[str, ...], batch: int, dtype: str) -> None:
    """Print the time of one layer in three forms, once every form is as exact as torch. Needs a CUDA device."""
    if not torch.cuda.is_available():
        click.echo("torch sees no CUDA device: nothing was measured", err=True)
        sys.exit(2)
    layers = {op: [MEASURED[op].inputs(batch, *layer, DTYPES[dtype], "cuda") for layer in LAYERS] for op in ops}
    problems = [problem for op in ops for inputs in layers[op] for problem in wrong_forms(op, inputs)]
    if problems:
        click.echo("\n".join(["not correct, so nothing was timed:", *problems]), err=True)
        sys.exit(1)
    versions = f"torch {torch.__version__}, CUDA {torch.version.cuda}, Triton {triton.__version__}"
    click.echo(f"{torch.cuda.get_device_name()}, {versions}; {dtype}; all forms correct")
    click.echo(f"batch {batch}, {HEADS} heads, {TOKENS} context and {LOCAL_TOKENS} local tokens")
    click.echo("ms: median (5 % to 95 %) of runs with a cold L2 cache, launches included")
    for op in ops:
        click.echo(f"{f'{op}: queries x channels':30}" + "".join(f"{name:>26}" for name in MEASURED[op].forms))
        for inputs in layers[op]:
            timings = [time_form(form, inputs) for form in MEASURED[op].forms.values()]
            cells = "".join(f"{f'{time.median:.3f} ({time.low:.3f} to {time.high:.3f})':>26}" for time in timings)
            click.echo(f"{f'{inputs[0].shape[1]} x {inputs[0].shape[2]}':30}{cells}")


def wrong_forms(op: str, inputs: tuple[Tensor, ...]) -> Iterator[str]:
    """The forms that are more than twice as far from the fp32 reference as the reference in the inputs' precision."""
    plain = MEASURED[op].forms["decomposed"]
    exact = plain(*(tensor.float() if tensor.is_floating_point() else tensor for tensor in inputs), HEADS)
    allowed = 2 * (plain(*inputs, HEADS) - exact).abs().max()
    for name, form in MEASURED[op].forms.items():
        error = (form(*inputs, HEADS) - exact).abs().max()
        # Written so that NaN is wrong.
        if not error <= allowed:
            yield f"{op} {name}, {list(inputs[0].shape)}: largest error {error:.3g}, expected at most {allowed:.3g}"


def time_form(form: Form, inputs: tuple[Tensor, ...]) -> Timing:
    """One form's time on the current CUDA device, after warming up."""
    quantiles = triton.testing.do_bench(lambda: form(*inputs, HEADS), warmup=100, rep=500, quantiles=[0.5, 0.05, 0.95])
    return Timing(*quantiles)


def _random(dtype: torch.dtype, device: str, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator(device).manual_seed(0)
    return [torch.randn(shape, generator=generator, device=device).to(dtype) for shape in shapes]


if __name__ == "__main__":
    bench_kernels()
