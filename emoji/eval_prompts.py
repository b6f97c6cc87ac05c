"""The prompts on which the embedded models are evaluated: every picture of their world, with the answer known."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from x2i.export.errors import PlanError
from x2i.runtime import Output

from .tokens.caption_judge import held_out_scenes, judge_caption
from .world.captions import caption
from .world.judge import Verdict, judge
from .world.pairs import Pair, judge_pair, pairs
from .world.spoken import spoken_words
from .world.subjects import judge_subject, subject_keys, subject_mask, subject_scene
from .world.vocabulary import backgrounds, kinds, languages, picture_keys

SUBJECT_PROMPT = "a S on a {} background"
SUBJECT_BACKGROUND = "white"
"""The background of the picture that shows a subject."""
SPOKEN_BACKGROUND = "white"
"""The background that a spoken word should be drawn on: none is ever spoken."""
ALPHA = 0.8


@dataclass(frozen=True, slots=True)
class EvalPrompt:
    """One run: its kind, an English caption, the options of the run, and `correct`, which tells what is right.

    A result is a drawing, uint8 [64, 64, 3], that should show what the caption says: the picture and its background, or
    both pictures, each on its side. Or it is a caption of `picture`, and should name both, as this one does.
    """

    kind: str
    caption: str
    options: dict[str, Any]
    correct: Callable[[Any], bool]
    picture: np.ndarray | None = None

    def result(self, output: Output) -> np.ndarray | str:
        """The drawing or the caption that a run gave."""
        return np.asarray(output.images[0]) if self.picture is None else output.texts[0]

    def described(self, result: np.ndarray | str) -> tuple[np.ndarray, str]:
        """The picture and the caption that should tell of each other; one of the two is the run's result."""
        if self.picture is None:
            assert isinstance(result, np.ndarray), "a run that should draw"
            return result, self.caption
        assert isinstance(result, str), "a run that should write a caption"
        return self.picture, result


def eval_prompts(system: str, each: int = 1, named: Sequence[str] = ()) -> list[EvalPrompt]:
    """64 drawings, or `each` times as many (1 to 8) for systems that read a background in every prompt.

    `named` are the bundle's languages; where none of the world's is among them, they are encoders, which read English.
    Raises PlanError for a system that has no embedded model.
    """
    if system not in PROMPTS_OF:
        known = ", ".join(PROMPTS_OF)
        raise PlanError(f"judge: expected one of the systems {known}, got {system!r}; leave out the judge")
    if named and not set(named) & set(languages()):
        return _behind_encoders(each, named)
    return PROMPTS_OF[system](each)


def evaluation_grid(keys: Sequence[str], each: int) -> Iterator[tuple[str, str, int]]:
    """Key, background and number of each drawing: every key on `each` backgrounds, which move on from key to key.

    The number is the drawing's seed; it stays the same when `each` grows.
    """
    colours = [background.key for background in backgrounds()]
    for index, key in enumerate(keys):
        for offset in range(each):
            yield key, colours[(index + offset) % len(colours)], index * len(colours) + offset


def _english(each: int) -> list[EvalPrompt]:
    return [_caption(key, colour, seed, "English", {}) for key, colour, seed in evaluation_grid(picture_keys(), each)]


def _multilingual(each: int) -> list[EvalPrompt]:
    """The languages take turns."""
    spoken = languages()
    return [
        _caption(key, colour, seed, spoken[number % len(spoken)], {"language": spoken[number % len(spoken)]})
        for number, (key, colour, seed) in enumerate(evaluation_grid(picture_keys(), each))
    ]


def _behind_encoders(each: int, named: Sequence[str]) -> list[EvalPrompt]:
    return [
        _caption(key, colour, seed, "English", {"language": named[number % len(named)]})
        for number, (key, colour, seed) in enumerate(evaluation_grid(picture_keys(), each))
    ]


def _caption(key: str, colour: str, seed: int, language: str, options: dict[str, Any]) -> EvalPrompt:
    run = options | {"prompt": caption(language, key, colour), "seed": seed}
    return EvalPrompt(kinds()[key], caption("English", key, colour), run, _shows(judge, key, colour))


def _subjects(each: int) -> list[EvalPrompt]:
    return [_subject(key, colour, seed) for key, colour, seed in evaluation_grid(subject_keys(), each)]


def _subject(key: str, colour: str, seed: int) -> EvalPrompt:
    scene, mask = subject_scene(key, SUBJECT_BACKGROUND), subject_mask(key)
    run = {"prompt": SUBJECT_PROMPT.format(colour), "subject": scene, "mask": mask, "seed": seed}
    return EvalPrompt(kinds()[key], f"a {key} on a {colour} background", run, _shows(judge_subject, key, colour))


def _pairs(each: int) -> list[EvalPrompt]:
    return [_pair(pair, seed) for seed, pair in enumerate(pairs())]


def _pair(pair: Pair, seed: int) -> EvalPrompt:
    """The kind is the left subject's."""
    run = {"prompt": pair.prompt, "subjects": list(pair.pictures()), "seed": seed, "alpha": ALPHA}

    def correct(image: np.ndarray) -> bool:
        verdict = judge_pair(image, pair)
        return verdict.apart and verdict.background == pair.background

    label = f"a {pair.left} and a {pair.right} on a {pair.background} background"
    return EvalPrompt(kinds()[pair.left], label, run, correct)


def _words(each: int) -> list[EvalPrompt]:
    """Every picture's word once; languages and voices take turns."""
    prompts = []
    for seed, key in enumerate(picture_keys()):
        words = [word for word in spoken_words() if word.key == key]
        word = words[seed % len(words)]
        run = {"sound": (word.samples, word.rate), "seed": seed}
        shows = _shows(judge, key, SPOKEN_BACKGROUND)
        prompts.append(EvalPrompt(kinds()[key], caption("English", key), run, shows))
    return prompts


def _captions(each: int) -> list[EvalPrompt]:
    """Every picture on the background on which training never showed it."""
    return [
        EvalPrompt(
            kinds()[key],
            caption("English", key, colour),
            {"image": picture, "seed": seed},
            _shows(judge_caption, key, colour),
            picture,
        )
        for seed, (key, colour, picture) in enumerate(held_out_scenes())
    ]


def _shows(name: Callable[[Any], Verdict], key: str, colour: str) -> Callable[[Any], bool]:
    return lambda result: name(result) == Verdict(key, colour)


PROMPTS_OF = {
    "sd": _english,
    "gluegen-text": _multilingual,
    "elite": _subjects,
    "fastcomposer": _pairs,
    "gluegen-sound": _words,
    "vq-diffusion": _english,
    "muse": _english,
    "ddcap": _captions,
}
"""What makes the prompts of each system, from the number of backgrounds."""
