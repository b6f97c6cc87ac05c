"""A picture drawn again: from its parameters to the prompt and the options of a run, checked against the bundle."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..bundle.reader import Bundle
from ..errors import InputError
from ..inputs.option import Option
from ..inputs.registry import run_options
from ..media.parameters import HASH_DIGITS, BundleMark, GivenFile, Parameters
from .given_files import cut_share, given_files, has_shares

OF_A_SAMPLER = ("spacing", "sigmas", "eta")
REPLACED_DEFAULTS = {"preset": ("sampler", "steps", *OF_A_SAMPLER), "sampler": OF_A_SAMPLER}
"""Defaults that a picture was drawn with and that another value of an option makes void."""
STARTS = ("image", "start", "tokens", "noise", "paint", "regions")
"""Options that decide the size of what is drawn."""


@dataclass(frozen=True, slots=True)
class Again:
    """The prompt and the options of a run that draws a picture again; `notes` say, a line each, why it may be
    another."""

    prompt: str | None
    options: dict[str, Any]
    notes: tuple[str, ...]


def drawn_again(
    parameters: Parameters,
    bundle: Bundle,
    text: Bundle | None,
    prompt: str | None,
    given: Mapping[str, Any],
    named: Collection[str] = (),
) -> Again:
    """What a picture was drawn with, `prompt` and the options `given` in its place where they say otherwise.

    `named` are further options that the caller gives, by values that say nothing; `text` is the second bundle, if any.
    Files are not taken from the picture: they must be among `given`. Raises InputError for another system, and with a
    line for everything that is to be given too.
    """
    if bundle.manifest.system != parameters.bundle.system:
        raise InputError(
            f"again: expected a bundle of {parameters.bundle.system}, with which the picture was drawn, got one of "
            f"{bundle.manifest.system}; give {parameters.bundle.name}"
        )
    problems = list(_lacking(parameters, text, given))
    if problems:
        raise InputError(*problems)
    cut = {name: _own_share(parameters, name, value) for name, value in given.items()}
    notes = [*_bundle_notes("bundle", parameters.bundle, bundle), *_file_notes(parameters, cut)]
    if parameters.text_bundle is not None and text is not None:
        notes += _bundle_notes("text bundle", parameters.text_bundle, text)
    notes += [f"{line}; the picture may be another" for line in parameters.missing]
    options = _kept(parameters, {*given, *named}) | cut
    return Again(parameters.prompt if prompt is None else prompt, options, tuple(notes))


def backend_note(parameters: Parameters, backend: str) -> list[str]:
    """One line where another backend draws than did: its last bits may be others."""
    if parameters.backend == backend:
        return []
    return [f"backend: the picture was drawn on {parameters.backend}; on {backend} it may differ in its last bits"]


def _lacking(parameters: Parameters, text: Bundle | None, given: Mapping[str, Any]) -> Iterator[str]:
    """What a picture does not carry."""
    known = run_options()
    for name, files in parameters.files.items():
        if name not in given and not _is_told(known[name], files):
            yield f"{name} ({known[name].spelling}): expected {_described(files)}, got none; give it again"
    if parameters.text_bundle is not None and text is None:
        marked = parameters.text_bundle
        yield f"text bundle (--text-bundle): expected {marked.name}, which read the prompt, got none; give it again"


def _described(files: tuple[GivenFile, ...]) -> str:
    names = ", ".join(file.name or f"an array or a picture of sha256 {file.sha256[:HASH_DIGITS]}" for file in files)
    cut = "" if files[0].share is None else f" (number {files[0].share + 1} in it)"
    return f"what the picture was drawn from, {names}{cut}"


def _own_share(parameters: Parameters, name: str, value: Any) -> Any:
    """Of an array with an entry for each picture of the run that one which was this picture's."""
    files = parameters.files.get(name, ())
    share = files[0].share if files else None
    if share is None or not has_shares(name, value):
        return value
    return cut_share(name, value, share)


def _file_notes(parameters: Parameters, given: Mapping[str, Any]) -> Iterator[str]:
    known = run_options()
    for name, files in parameters.files.items():
        if name not in given:
            continue
        found = given_files(known[name], given[name])
        told = [_marks(known[name].form, each) for each in (found, files)]
        if told[0] != told[1]:
            yield f"{name}: expected {_described(files)}, got another; it is drawn from that"


def _is_told(option: Option, files: tuple[GivenFile, ...]) -> bool:
    """Whether a picture carries all that an option's texts said, since none of them names a file."""
    return option.form == "item" and all(file.name is not None and option.locate(file.name) is None for file in files)


def _marks(form: str, files: tuple[GivenFile, ...]) -> list[tuple[str, ...]]:
    """What files are told apart by: their contents, and of weights and items also how strongly they are used."""
    told = {"weights": slice(1, None), "item": slice(-1, None)}.get(form, slice(0))
    return [(file.sha256, *(file.name or "").split(":")[told]) for file in files]


def _bundle_notes(what: str, marked: BundleMark, bundle: Bundle) -> list[str]:
    if marked.manifest is not None and marked.manifest == bundle.sha256:
        return []
    drawn_with = "an unknown manifest" if marked.manifest is None else f"the manifest {marked.manifest[:HASH_DIGITS]}"
    return [
        f"{what}: the picture was drawn with {marked.name} of {drawn_with}, and this is another; so may the picture be"
    ]


def _kept(parameters: Parameters, given: Collection[str]) -> dict[str, Any]:
    """The picture's options and defaults that hold beside what the caller gives."""
    void = {name for option in given for name in REPLACED_DEFAULTS.get(option, ())}
    kept = {name: value for name, value in parameters.defaults.values.items() if name not in void}
    kept |= parameters.options.values
    known = run_options()
    kept |= {
        name: [file.name for file in files] for name, files in parameters.files.items() if _is_told(known[name], files)
    }
    if any(name in given and name not in parameters.files for name in STARTS):
        kept.pop("size", None)
    return {name: value for name, value in kept.items() if name not in given}
