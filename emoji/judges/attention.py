"""`python -m x2i.emoji.judges.attention`: what the CPU's attention kernel costs the embedded models' pictures."""

from pathlib import Path

import click
from x2i.runtime.bundle.reader import Bundle, open_bundle
from x2i.runtime.gate.record import Judged
from x2i.runtime.load import pipeline_of
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.sessions.session import KERNEL_ATTENTIONS, Settings

from ..embedded import EMBEDDED, embedded
from ..gate import EmojiJudge
from .precision import lowered_anyway, means_of

SYSTEMS = ("gluegen-text", "sd", "gluegen-sound", "elite", "fastcomposer")


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder.")
@click.option(
    "--system",
    "systems",
    type=click.Choice(SYSTEMS),
    multiple=True,
    default=SYSTEMS,
    help="Repeatable; all if left out.",
)
@click.option("--threads", type=click.IntRange(min=1), help="CPU threads; all cores if left out.")
def judge_attention(out: Path, systems: tuple[str, ...], threads: int | None) -> None:
    """Draw every picture of the embedded models' world with OpenVINO's attention and with the kernel everywhere, in
    fp32 and int8 graphs, at the same seeds, and let the judge and CLIP say what is lost."""
    for system in systems:
        plan_of, name = EMBEDDED[system]
        fp32 = open_bundle(embedded(plan_of, out / name, click.echo))
        int8 = open_bundle(lowered_anyway(fp32, out / f"{name}-int8", "int8"))
        for precision, bundle in (("fp32", fp32), ("int8", int8)):
            score = EmojiJudge().against(bundle.manifest, _drawn_by(bundle, "library", threads))
            for attention in KERNEL_ATTENTIONS:
                click.echo(
                    f"{system}, {precision} graphs, {attention}: {_text(score(_drawn_by(bundle, attention, threads)))}"
                )


def _drawn_by(bundle: Bundle, attention: str, threads: int | None) -> Pipeline:
    return pipeline_of(bundle, "openvino", Settings(threads, attention))


def _text(judged: Judged) -> str:
    """Right drawings and CLIP scores over all kinds, OpenVINO's own first."""
    before, after, *cosines = means_of(judged)
    right = [round(share * judged.drawings) for share in (before, after)]
    return f"{right[0]} -> {right[1]} of {judged.drawings} right, CLIP {cosines[0]:.4f} -> {cosines[1]:.4f}"


if __name__ == "__main__":
    judge_attention()
