"""`x2i run`: draw pictures with a bundle, or what else it gives."""

import warnings
from functools import partial
from pathlib import Path
from typing import Any

import click

from ..bundle.plan import Plan
from ..bundle.reader import Bundle, open_bundle
from ..errors import InputError
from ..files.writing import check_targets, save_all
from ..inputs.sampling import MOST_PICTURES
from ..load import load
from ..media.picture_files import read_parameters
from ..output import SUFFIXES, Output, numbered_paths, write_array, writes_of, written_kind
from ..processes.recorded_noise import noise_count
from ..redraw.again import Again, backend_note, drawn_again
from .console import announce, command, echo_json, warned
from .options import (
    FILE,
    attention_option,
    backend_option,
    given_keywords,
    input_files,
    named_options,
    rest_on_cpu_option,
    run_keywords,
    text_bundle_option,
    threads_option,
)
from .progress import bars, echo, progress_bar

DEFAULT = Path("out.png")
OUT = "File to write: out.png, or of a bundle that gives sounds out.wav; a text is printed, and written where named."


@command()
@click.argument("bundle", type=FILE)
@click.argument("prompts", metavar="[PROMPT]...", nargs=-1)
@run_keywords(without=("negative",))
@click.option("--negative", "negative", multiple=True, help="Text to steer away from; one, or one for each prompt.")
@text_bundle_option
@backend_option
@threads_option
@attention_option
@rest_on_cpu_option
@click.option("--max-memory", help="Memory that drawing may take, such as 4GB: graphs are opened and closed in turns.")
@click.option("--out", type=FILE, help=OUT)
@click.option("--save-latents", type=FILE, help="Also save the latents: .npy, float32.")
@click.option("--save-tokens", type=FILE, help="Also save the tokens, of a bundle that draws some: .npy, int64.")
@click.option("--again", type=FILE, help="Picture of x2i to draw again: what it was drawn with, but for what is given.")
@click.option("--no-parameters", is_flag=True, help="Leave out of pictures what they were drawn with.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of lines.")
def run(
    bundle: Path,
    prompts: tuple[str, ...],
    negative: tuple[str, ...],
    text_bundle: Path | None,
    backend: str | None,
    threads: int | None,
    attention: str | None,
    rest_on_cpu: bool,
    max_memory: str | None,
    out: Path | None,
    save_latents: Path | None,
    save_tokens: Path | None,
    again: Path | None,
    no_parameters: bool,
    as_json: bool,
    **values: Any,
) -> None:
    """Draw PROMPT, or a sound, or describe a picture, with the folder BUNDLE. What is left out comes from its plan.

    Several prompts are drawn at once.
    """
    # Nothing is opened for files that cannot be written, or that this run would not give.
    opened = open_bundle(bundle, check_files=False)
    plan, parameters = opened.manifest.plan, None if again is None else read_parameters(again)
    several = len(prompts) > 1
    prompt = prompts[0] if prompts else None
    values["negative"] = negative[0] if negative else ""
    request = Again(prompt, given_keywords(plan.options(), values), ())
    if parameters is not None:
        text = None if text_bundle is None else open_bundle(text_bundle, check_files=False)
        request = drawn_again(parameters, opened, text, prompt, request.options, _named(opened))
    if text_bundle is not None and request.prompt is None:
        raise InputError("prompt: expected the text that --text-bundle reads, got none; give PROMPT")
    gives = plan.gives(request.prompt, request.options)
    saved = _saved_states(plan, {"latents": save_latents, "tokens": save_tokens})
    kind, out = _target(gives, out)
    options = request.options | ({"negative": list(negative)} if len(negative) > 1 else {})
    texts = list(prompts) if several or len(negative) > 1 else request.prompt
    paths = [] if out is None else numbered_paths(out, _count(options, len(prompts)))
    read = [*input_files(values), *([] if again is None else [again])]
    check_targets([*paths, *saved], read, [path for path in (bundle, text_bundle) if path is not None])
    preset = request.options.get("preset")
    with warned():
        pipeline = load(
            bundle,
            backend,
            threads,
            text_bundle=text_bundle,
            preset=preset,
            max_memory=max_memory,
            attention=attention,
            rest_on_cpu=rest_on_cpu,
        )
    announce(pipeline, backend)
    notes = [*request.notes, *([] if parameters is None else backend_note(parameters, pipeline.backend))]
    with warned(), bars(not as_json), progress_bar("drawing", unit="step") as bar:
        for note in notes:
            warnings.warn(note, UserWarning, stacklevel=2)
        output = pipeline(texts, on_step=lambda step: bar.move_to(step.index + 1, step.count), **options)
    state = output.latents if output.tokens is None else output.tokens
    assert state is not None, "a run that gave no state"
    with warned():
        written = writes_of(output, kind, paths, not no_parameters) if paths else {}
        save_all(written | {path: partial(write_array, state) for path in saved})
    _tell(output, notes, gives, kind, paths, as_json)


def _named(bundle: Bundle) -> set[str]:
    return named_options(bundle.manifest.plan.options(), click.get_current_context())


def _saved_states(plan: Plan, states: dict[str, Path | None]) -> list[Path]:
    """Where the last state goes. Raises InputError for a state that this bundle has not, and for names of others than
    its files."""
    walked, saved = plan.process.kind, []
    for kind, path in states.items():
        if path is None:
            continue
        if kind != walked:
            raise InputError(f"--save-{kind}: this bundle walks {walked}; use --save-{walked}")
        if path.suffix != ".npy":
            raise InputError(f"--save-{kind}: expected a name such as {kind}.npy, got {path}")
        saved.append(path)
    return saved


def _target(gives: tuple[str, ...], out: Path | None) -> tuple[str, Path | None]:
    """What is written of what a run gives, and where; a text goes nowhere where no file is named. Raises InputError for
    a name that is none of theirs."""
    kinds = [kind for kind in ("picture", *SUFFIXES) if kind in gives]
    if out is None:
        kind = kinds[0]
        return kind, None if kind == "text" else DEFAULT.with_suffix(SUFFIXES.get(kind, DEFAULT.suffix))
    return written_kind(kinds, out), out


def _count(keywords: dict[str, Any], prompts: int) -> int:
    """How many results a run gives. A number out of its range is refused with the other options."""
    count = noise_count(keywords.get("noise")) or (keywords.get("count") or 1) * max(1, prompts)
    return count if 1 <= count <= MOST_PICTURES else 1


def _tell(
    output: Output, notes: list[str], gives: tuple[str, ...], kind: str, paths: list[Path], as_json: bool
) -> None:
    """The texts that a run gives and the files, and how long it took."""
    written = output.texts if "text" in gives else []
    if as_json:
        seconds = {stage: round(value, 4) for stage, value in output.timings.items()}
        files = {"images" if kind == "picture" else "files": [str(path) for path in paths]}
        texts = {"texts": written} if written else {}
        echo_json({**files, **texts, "seconds": seconds, "warnings": [*notes, *output.warnings]})
        return
    for line in (*written, *map(str, paths)):
        echo(line)
    echo("  ".join(f"{stage} {value:.2f} s" for stage, value in output.timings.items()))
