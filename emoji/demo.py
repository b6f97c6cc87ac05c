"""`python -m x2i.emoji.demo`: the embedded models from their checkpoints to a labelled contact sheet."""

import statistics
from dataclasses import dataclass, field
from pathlib import Path

import click
from PIL import Image
from x2i.export.errors import GateError
from x2i.runtime import Output, Pipeline, load
from x2i.runtime.bundle.proof import check_against_fp32

from .embedded import EMBEDDED, FEW_STEPS, OTHER_ENCODERS, Made, embedded_bundle
from .judges.painted import draw_painted
from .judges.pairs import draw_pair
from .judges.report import contact_sheet, squared
from .judges.sounds import draw_sound
from .judges.tokens import PAINTERS
from .world.captions import caption
from .world.pairs import painted_pairs, pairs
from .world.spoken import spoken_words
from .world.vocabulary import languages

SUBJECTS = (("red apple", "white"), ("panda", "green"), ("rocket", "blue"), ("penguin", "yellow"), ("crown", "purple"))
COLUMNS = [f"{subject}, {background}" for subject, background in SUBJECTS]
HEARD = ("English", "German", "French", "Spanish", "Italian")
PAIRS = (0, 11, 22, 33, 44)
PAIR_ROW = "two subjects"
T5_ROW = "English, T5"
PAINTED_ROW = "painted"
FEW_STEPS_ROW = "four steps"
ALPHA = 0.8
"""Of few steps, the default of 11 text-only calls leaves too few."""


@dataclass(slots=True)
class Sheet:
    """What the contact sheet shows: pictures by row, titles of the rows that have their own, captions by row, and the
    text's runs."""

    rows: dict[str, list[Image.Image]] = field(default_factory=dict)
    titles: dict[str, list[str]] = field(default_factory=dict)
    captions: dict[str, list[str]] = field(default_factory=dict)
    outputs: list[Output] = field(default_factory=list)


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("demo"), show_default=True, help="Folder to fill.")
@click.option("--seed", type=int, default=0, show_default=True)
def demo(out: Path, seed: int) -> None:
    """Export the embedded models, verify them, draw in every language, from spoken words, token by token, of two
    subjects and of painted words, have each picture described, and save OUT/contact-sheet.png."""
    sheet = Sheet()
    _draw_languages(_verified("gluegen-text", out), seed, sheet)
    _draw_behind_t5(_verified("gluegen-text", out, OTHER_ENCODERS), seed, sheet)
    _draw_in_few_steps(_verified("gluegen-text", out, FEW_STEPS), seed, sheet)
    _draw_sounds(_verified("gluegen-sound", out), seed, sheet)
    for system in PAINTERS:
        _draw_tokens(_verified(system, out), system, seed, sheet)
    _draw_pairs(_verified("fastcomposer", out), seed, sheet)
    _draw_painted(_verified("sd", out), seed, sheet)
    _describe(_verified("ddcap", out), seed, sheet)
    contact_sheet(sheet.rows, COLUMNS, sheet.titles, sheet.captions).save(out / "contact-sheet.png")
    click.echo("\n".join(["", *_table(sheet.outputs), "", f"contact sheet: {out / 'contact-sheet.png'}"]))


def _verified(system: str, out: Path, made: Made = EMBEDDED) -> Pipeline:
    bundle = embedded_bundle(system, out, click.echo, made)
    pipeline = load(bundle)
    for proven in check_against_fp32(pipeline.bundle, pipeline.session):
        if not proven.passed:
            raise GateError(f"{proven.graph}: error {proven.error:.1e} past the gate {proven.gate:.0e}")
    click.echo(f"{bundle}: verified, every file and every graph")
    return pipeline


def _draw_languages(pipeline: Pipeline, seed: int, sheet: Sheet) -> None:
    for language in languages():
        for subject, background in SUBJECTS:
            prompt = caption(language, subject, background)
            output = pipeline(prompt, language=language, seed=seed)
            click.echo(f"{language:9} {prompt}")
            sheet.rows.setdefault(language, []).append(output.images[0])
            sheet.outputs.append(output)


def _draw_behind_t5(pipeline: Pipeline, seed: int, sheet: Sheet) -> None:
    for subject, background in SUBJECTS:
        prompt = caption("English", subject, background)
        click.echo(f"{T5_ROW} {prompt}")
        sheet.rows.setdefault(T5_ROW, []).append(pipeline(prompt, language="T5", seed=seed).images[0])


def _draw_in_few_steps(pipeline: Pipeline, seed: int, sheet: Sheet) -> None:
    """Without guidance, every picture in another language."""
    for (subject, background), language in zip(SUBJECTS, languages(), strict=False):
        prompt = caption(language, subject, background)
        click.echo(f"{FEW_STEPS_ROW} {prompt}")
        sheet.rows.setdefault(FEW_STEPS_ROW, []).append(pipeline(prompt, language=language, seed=seed).images[0])
        sheet.titles.setdefault(FEW_STEPS_ROW, []).append(f"{subject}, {background}, {language}")


def _draw_sounds(pipeline: Pipeline, seed: int, sheet: Sheet) -> None:
    """The same things by their names alone, every one in another language."""
    for (subject, _), language in zip(SUBJECTS, HEARD, strict=True):
        word = next(word for word in spoken_words() if (word.key, word.language) == (subject, language))
        click.echo(f"sound     {subject!r} in {language}, by the voice {word.voice!r}")
        sheet.rows.setdefault("spoken", []).append(draw_sound(pipeline, word, seed))
        sheet.titles.setdefault("spoken", []).append(f"{subject}, {language}")


def _draw_tokens(pipeline: Pipeline, system: str, seed: int, sheet: Sheet) -> None:
    for subject, background in SUBJECTS:
        prompt = caption("English", subject, background)
        click.echo(f"{system:9} {prompt}")
        sheet.rows.setdefault(system, []).append(pipeline(prompt, seed=seed).images[0])
    sheet.titles[system] = COLUMNS


def _draw_pairs(pipeline: Pipeline, seed: int, sheet: Sheet) -> None:
    for number in PAIRS:
        pair = pairs()[number]
        click.echo(f"subjects  {pair.left} and {pair.right}: {pair.prompt}")
        sheet.rows.setdefault(PAIR_ROW, []).append(draw_pair(pipeline, pair, seed, alpha=ALPHA))
        sheet.titles.setdefault(PAIR_ROW, []).append(f"{pair.left}, {pair.right}")


def _draw_painted(pipeline: Pipeline, seed: int, sheet: Sheet) -> None:
    for pair in painted_pairs()[: len(COLUMNS)]:
        click.echo(f"painted   {' | '.join(pair.captions)}")
        sheet.rows.setdefault(PAINTED_ROW, []).append(squared(draw_painted(pipeline, pair, seed)))
        sheet.titles.setdefault(PAINTED_ROW, []).append(f"{pair.left}, {pair.right}")


def _describe(pipeline: Pipeline, seed: int, sheet: Sheet) -> None:
    """Every picture but those of two things, which the captioner has no words for."""
    for label, images in sheet.rows.items():
        if label not in (PAIR_ROW, PAINTED_ROW):
            sheet.captions[label] = [pipeline(image=image, seed=seed).texts[0] for image in images]


def _table(outputs: list[Output]) -> list[str]:
    """Median and spread of every stage, in milliseconds per picture."""
    lines = [f"{'stage':10} {'median ms':>10} {'fastest':>10} {'slowest':>10}   ({len(outputs)} pictures, batch 1)"]
    for stage in outputs[0].timings:
        times = sorted(output.timings[stage] * 1000 for output in outputs)
        lines.append(f"{stage:10} {statistics.median(times):10.1f} {times[0]:10.1f} {times[-1]:10.1f}")
    return lines


if __name__ == "__main__":
    demo()
