"""`python -m x2i.export.demo`: the embedded model from its checkpoints to a labelled contact sheet."""

import statistics
from pathlib import Path

import click
from PIL import Image
from x2i.models.emoji.captions import caption
from x2i.models.emoji.vocabulary import languages
from x2i.runtime import Output, Pipeline, load
from x2i.runtime.proof import prove

from .contact_sheet import contact_sheet
from .embedded import embedded_text
from .errors import GateError
from .exporter import export_bundle

SUBJECTS = (("red apple", "white"), ("panda", "green"), ("rocket", "blue"), ("penguin", "yellow"), ("crown", "purple"))


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder to fill.")
@click.option("--seed", type=int, default=0, show_default=True)
def demo(out: Path, seed: int) -> None:
    """Export the embedded model, verify it, draw in every language, and save OUT/contact-sheet.png."""
    bundle = out / "bundle"
    if not bundle.exists():
        export_bundle(embedded_text(bundle), click.echo)
    pipeline = load(bundle)
    for proven in prove(pipeline.bundle, "cpu"):
        if not proven.passed:
            raise GateError(f"{proven.graph}: error {proven.error:.1e} past the gate {proven.gate:.0e}")
    click.echo(f"{bundle}: verified, every file and every graph")
    rows, outputs = _draw(pipeline, seed)
    sheet = contact_sheet(rows, [f"{subject}, {background}" for subject, background in SUBJECTS])
    sheet.save(out / "contact-sheet.png")
    click.echo("\n".join(["", *_table(outputs), "", f"contact sheet: {out / 'contact-sheet.png'}"]))


def _draw(pipeline: Pipeline, seed: int) -> tuple[dict[str, list[Image.Image]], list[Output]]:
    rows: dict[str, list[Image.Image]] = {}
    outputs = []
    for language in languages():
        for subject, background in SUBJECTS:
            prompt = caption(language, subject, background)
            output = pipeline(prompt, language=language, seed=seed)
            click.echo(f"{language:9} {prompt}")
            rows.setdefault(language, []).append(output.images[0])
            outputs.append(output)
    return rows, outputs


def _table(outputs: list[Output]) -> list[str]:
    """Median and spread of every stage, in milliseconds per picture."""
    lines = [f"{'stage':10} {'median ms':>10} {'fastest':>10} {'slowest':>10}   ({len(outputs)} pictures, batch 1)"]
    for stage in outputs[0].timings:
        times = sorted(output.timings[stage] * 1000 for output in outputs)
        lines.append(f"{stage:10} {statistics.median(times):10.1f} {times[0]:10.1f} {times[-1]:10.1f}")
    return lines


if __name__ == "__main__":
    demo()
