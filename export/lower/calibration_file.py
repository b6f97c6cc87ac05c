"""A calibration set that the user gives: JSON lines, each the options of one run."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from x2i.runtime.bundle.reader import Bundle
from x2i.runtime.conditions import Conditions
from x2i.runtime.errors import InputError
from x2i.runtime.files.reading import parse_json, read_text
from x2i.runtime.inputs.registry import run_options
from x2i.runtime.media.tokenizer import Tokenizer
from x2i.runtime.request import make_request
from x2i.runtime.sessions.session import Session

MOST_BYTES = 10_000_000
MOST_CASES = 10_000
"""Of one file."""
EXAMPLE = '{"prompt": "a red apple", "seed": 1}'


def read_cases(path: Path, bundle: Bundle) -> list[dict[str, Any]]:
    """The runs that a file describes, every one checked against the bundle; files are named relative to it.

    Raises InputError with a line for each problem: a file that is no text or empty, a line that is no JSON object, an
    option that a run has not or this bundle does not take, a picture where text is wanted.
    """
    text = read_text(path, str(path), f"runs to calibrate on, one JSON object a line such as {EXAMPLE}", MOST_BYTES)
    lines = [(number, line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise InputError(f"{path}: expected runs to calibrate on, one JSON object a line, got none; add {EXAMPLE}")
    if len(lines) > MOST_CASES:
        raise InputError(
            f"{path}: expected at most {MOST_CASES} runs to calibrate on, got {len(lines)}; leave some out"
        )
    tokenizers = Conditions(bundle, _never).prompt_tokenizers
    cases, problems = [], []
    for number, line in lines:
        try:
            cases.append(_case(line, path.parent, bundle, tokenizers))
        except InputError as error:
            problems += [f"{path}:{number}: {problem}" for problem in error.problems]
    if problems:
        raise InputError(*problems)
    return cases


def _case(line: str, folder: Path, bundle: Bundle, tokenizers: Sequence[Tokenizer]) -> dict[str, Any]:
    """One run's options, its files' names made absolute."""
    given = parse_json(line, f"a JSON object such as {EXAMPLE}, {line[:40]!r}")
    if not isinstance(given, dict):
        raise InputError(f"expected a JSON object such as {EXAMPLE}, got {line[:40]!r}")
    problems = _kind_problems(given, folder)
    if problems:
        raise InputError(*problems)
    files = _files()
    case: dict[str, Any] = {name: _located(value, folder) if name in files else value for name, value in given.items()}
    others = {name: value for name, value in case.items() if name != "prompt"}
    make_request(bundle.manifest, case.get("prompt"), tokenizers, **others)
    return case


def _kind_problems(given: dict[str, Any], folder: Path) -> list[str]:
    known, files = {"prompt", *(name for name, option in run_options().items() if option.stored)}, _files()
    problems = [
        f"{name}: expected an option of a run, one of {', '.join(sorted(known))}" for name in given.keys() - known
    ]
    prompt = given.get("prompt")
    if isinstance(prompt, str) and prompt and len(prompt) < 256 and "\0" not in prompt and (folder / prompt).is_file():
        problems.append(f"prompt: expected words, got the name of a file, {prompt!r}; describe what to draw")
    problems += [
        f"{name}: expected a file's name or a list of them, got {value!r}"
        for name, value in given.items()
        if name in files and not all(isinstance(one, str) for one in (value if isinstance(value, list) else [value]))
    ]
    return sorted(problems)


def _files() -> set[str]:
    """The options whose values are files."""
    return {name for name, option in run_options().items() if option.is_file}


def _located(names: str | list[str], folder: Path) -> Path | list[Path]:
    return folder / names if isinstance(names, str) else [folder / name for name in names]


def _never(graph: str) -> Session:
    raise AssertionError(f"{graph} is not needed to check a run")
