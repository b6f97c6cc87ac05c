"""What the embedded bundles are asked to draw where a judge knows the answer: every picture of their world."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from x2i.export.errors import PlanError

from .score import asked
from .world.captions import caption
from .world.judge import Verdict, judge
from .world.pairs import Pair, judge_pair, pairs
from .world.spoken import spoken_words
from .world.subjects import judge_subject, subject_keys, subject_mask, subject_scene
from .world.vocabulary import kinds, languages, picture_keys

SUBJECT_PROMPT = "a S on a {} background"
GIVEN_BACKGROUND = "white"
"""Behind the subject in the picture of it."""
UNSAID_BACKGROUND = "white"
"""Behind a word that is heard: nobody says one."""
ALPHA = 0.8


@dataclass(frozen=True, slots=True)
class EvalPrompt:
    """One drawing: its kind, an English caption of what it should show, a run's options, and whether a drawing, uint8
    [64, 64, 3], shows it: the picture and the colour behind it, or both pictures, each on its side."""

    kind: str
    caption: str
    options: dict[str, Any]
    right: Callable[[np.ndarray], bool]


def eval_prompts(system: str, each: int = 1) -> list[EvalPrompt]:
    """64 drawings, or `each` times as many for systems that read a background in every prompt (1 to 8)."""
    if system not in ASKED:
        raise PlanError(f"judge: expected one of the systems {', '.join(ASKED)}, got {system!r}; leave out the judge")
    return ASKED[system](each)


def _english(each: int) -> list[EvalPrompt]:
    return [_caption(key, colour, seed, "English", {}) for key, colour, seed in asked(picture_keys(), each)]


def _multilingual(each: int) -> list[EvalPrompt]:
    """The languages take turns."""
    spoken = languages()
    return [
        _caption(key, colour, seed, spoken[number % len(spoken)], {"language": spoken[number % len(spoken)]})
        for number, (key, colour, seed) in enumerate(asked(picture_keys(), each))
    ]


def _caption(key: str, colour: str, seed: int, language: str, options: dict[str, Any]) -> EvalPrompt:
    run = options | {"prompt": caption(language, key, colour), "seed": seed}
    return EvalPrompt(kinds()[key], caption("English", key, colour), run, _is(judge, key, colour))


def _subjects(each: int) -> list[EvalPrompt]:
    return [_subject(key, colour, seed) for key, colour, seed in asked(subject_keys(), each)]


def _subject(key: str, colour: str, seed: int) -> EvalPrompt:
    scene, mask = subject_scene(key, GIVEN_BACKGROUND), subject_mask(key)
    run = {"prompt": SUBJECT_PROMPT.format(colour), "subject": scene, "mask": mask, "seed": seed}
    return EvalPrompt(kinds()[key], f"a {key} on a {colour} background", run, _is(judge_subject, key, colour))


def _pairs(each: int) -> list[EvalPrompt]:
    return [_pair(pair, seed) for seed, pair in enumerate(pairs())]


def _pair(pair: Pair, seed: int) -> EvalPrompt:
    """Of its left subject's kind."""
    run = {"prompt": pair.prompt, "subjects": list(pair.pictures()), "seed": seed, "alpha": ALPHA}

    def right(image: np.ndarray) -> bool:
        verdict = judge_pair(image, pair)
        return verdict.apart and verdict.background == pair.background

    told = f"a {pair.left} and a {pair.right} on a {pair.background} background"
    return EvalPrompt(kinds()[pair.left], told, run, right)


def _words(each: int) -> list[EvalPrompt]:
    """Every picture's word once; languages and voices take turns."""
    asked_words = []
    for seed, key in enumerate(picture_keys()):
        words = [word for word in spoken_words() if word.key == key]
        word = words[seed % len(words)]
        run = {"sound": (word.samples, word.rate), "seed": seed}
        asked_words.append(EvalPrompt(kinds()[key], caption("English", key), run, _is(judge, key, UNSAID_BACKGROUND)))
    return asked_words


def _is(name: Callable[[np.ndarray], Verdict], key: str, colour: str) -> Callable[[np.ndarray], bool]:
    return lambda image: name(image) == Verdict(key, colour)


ASKED = {
    "sd": _english,
    "gluegen-text": _multilingual,
    "elite": _subjects,
    "fastcomposer": _pairs,
    "gluegen-sound": _words,
}
