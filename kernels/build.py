"""`python -m x2i.kernels.build`: machine code of the kernels, for every GPU wanted or for this machine's CPU.

Each kind imports what it needs when it is built: for the CPU that is a compiler and OpenVINO, for GPUs Triton.
"""

import time
from itertools import product
from pathlib import Path

import click

from .errors import KernelError
from .gpu import cubins
from .gpu.cubins import HEAD_WIDTHS, TARGETS
from .gpu.kernel_op import MAX_HEAD_WIDTH, TRITON_TYPES
from .gpu_ops import GPU_OPS

HALVES = ("float16", "bfloat16")
GPU_OPTIONS = {"targets": "--target", "dtypes": "--dtype", "head_widths": "--head-width"}


@click.command()
@click.option("--for", "kind", type=click.Choice(("gpu", "cpu")), default="gpu", show_default=True)
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder to write to. Needed for gpu; for cpu it is where x2i looks, unless another is named.",
)
@click.option("--target", "targets", multiple=True, type=click.Choice(TARGETS), default=TARGETS, show_default=True)
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(list(TRITON_TYPES)), default=HALVES, show_default=True
)
@click.option(
    "--head-width",
    "head_widths",
    multiple=True,
    type=click.IntRange(1, MAX_HEAD_WIDTH),
    default=HEAD_WIDTHS,
    show_default=True,
)
@click.pass_context
def build_kernels(
    context: click.Context,
    kind: str,
    out: Path | None,
    targets: tuple[str, ...],
    dtypes: tuple[str, ...],
    head_widths: tuple[int, ...],
) -> None:
    """Compile the kernels. For gpu: the passes of the injected and of the biased attention, which alone takes float32,
    as .cubin and .ptx files with an index.json; what is there and up to date is kept. For cpu: attention for AVX-512,
    against the OpenVINO that is installed."""
    given = click.core.ParameterSource.COMMANDLINE
    others = [option for name, option in GPU_OPTIONS.items() if context.get_parameter_source(name) is given]
    try:
        if kind == "cpu":
            if others:
                raise KernelError(
                    f"{', '.join(others)}: expected with --for gpu alone, got --for cpu; leave out one or the other"
                )
            build_for_cpu(out)
        elif out is None:
            raise KernelError("--out: expected a folder for the kernels of GPUs, got none; name one, or say --for cpu")
        else:
            build_for_gpu(out, targets, dtypes, head_widths)
    except KernelError as error:
        for problem in error.problems:
            click.echo(f"x2i: error: {problem}", err=True)
        context.exit(2)
    except OSError as error:
        click.echo(f"x2i: error: {error.filename or out}: {error.strerror}; name another folder with --out", err=True)
        context.exit(2)


def build_for_cpu(out: Path | None) -> None:
    """Compiles attention for AVX-512 into a folder, or where x2i looks for it.

    Raises KernelError without OpenVINO or a compiler, OSError where the folder cannot be written.
    """
    try:
        from .cpu_attention.compile import compile_library
        from .cpu_attention.library import build_folder, cpu_can_attend, openvino_release
    except ImportError as error:
        raise KernelError(f"--for cpu needs openvino ({error}): pip install 'x2i-edge[openvino]'") from error
    start = time.perf_counter()
    path = compile_library(build_folder() if out is None else out)
    seconds, size = time.perf_counter() - start, path.stat().st_size
    runs = "this CPU can run it" if cpu_can_attend(path) else "this CPU lacks instructions with which it is written"
    click.echo(f"{path}: {size:,} bytes for OpenVINO {openvino_release()}, {seconds:.1f} s; {runs}")
    if path.parent.resolve() != build_folder().resolve():
        click.echo(f"x2i looks in {build_folder()}, where it is written without --out")


def build_for_gpu(out: Path, targets: tuple[str, ...], dtypes: tuple[str, ...], head_widths: tuple[int, ...]) -> None:
    """Compiles what a folder lacks of the ops' passes for these targets, types and head widths.

    Raises KernelError without Triton, OSError where the folder cannot be written.
    """
    try:
        from .gpu.aot import compile_pass, source_digest
    except ImportError as error:
        raise KernelError(f"--for gpu needs triton ({error}): pip install 'x2i-edge[kernels]'") from error
    out.mkdir(parents=True, exist_ok=True)
    there = cubins.read_undamaged_cubins(out)
    sources = {kernel: source_digest(op) for op in GPU_OPS for kernel in op.passes}
    done = {cubin.stem: cubin for cubin in there if cubin.source == sources.get(cubin.kernel)}
    start, kept = time.perf_counter(), len(done)
    passes = [(op, kernel) for op in GPU_OPS for kernel in op.passes]
    for (op, kernel), target, dtype, head_width in product(passes, targets, dtypes, head_widths):
        if dtype not in op.dtypes or f"{kernel}-{dtype}-{head_width}-{target}" in done:
            continue
        began = time.perf_counter()
        compiled = compile_pass(op, kernel, target, dtype, head_width)
        cubin = compiled.cubin
        (out / f"{cubin.stem}.cubin").write_bytes(cubin.image)
        (out / f"{cubin.stem}.ptx").write_text(compiled.ptx, encoding="utf-8")
        done[cubin.stem] = cubin
        cubins.write_index(out, done.values())
        seconds = time.perf_counter() - began
        click.echo(f"{cubin.stem}: {len(cubin.image):,} bytes, {cubin.shared:,} of shared memory, {seconds:.1f} s")
    size = sum(len(cubin.image) for cubin in done.values())
    click.echo(f"{len(done)} kernels, {size:,} bytes in {out}; {kept} were there, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    build_kernels()
