"""`python -m x2i.kernels.build --out DIR`: the injected attention as machine code for every GPU wanted."""

import time
from itertools import product
from pathlib import Path

import click

from .injected_attention import cubins
from .injected_attention.aot import DTYPES, HEAD_WIDTHS, TARGETS, compile_pass, source_digest
from .injected_attention.op import MAX_HEAD_WIDTH, PASSES


@click.command()
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder to write to.")
@click.option("--target", "targets", multiple=True, type=click.Choice(TARGETS), default=TARGETS, show_default=True)
@click.option(
    "--dtype", "dtypes", multiple=True, type=click.Choice(list(DTYPES)), default=tuple(DTYPES), show_default=True
)
@click.option(
    "--head-width",
    "head_widths",
    multiple=True,
    type=click.IntRange(1, MAX_HEAD_WIDTH),
    default=HEAD_WIDTHS,
    show_default=True,
)
def build_kernels(out: Path, targets: tuple[str, ...], dtypes: tuple[str, ...], head_widths: tuple[int, ...]) -> None:
    """Compile both passes, as .cubin and .ptx files with an index.json. What is there and up to date is kept."""
    out.mkdir(parents=True, exist_ok=True)
    there = cubins.read_undamaged_cubins(out)
    done = {cubin.stem: cubin for cubin in there if cubin.source == source_digest(cubin.kernel, cubin.head_width)}
    start, kept = time.perf_counter(), len(done)
    for kernel, target, dtype, head_width in product(PASSES, targets, dtypes, head_widths):
        if f"{kernel}-{dtype}-{head_width}-{target}" in done:
            continue
        began = time.perf_counter()
        compiled = compile_pass(kernel, target, dtype, head_width)
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
