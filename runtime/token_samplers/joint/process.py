"""UniD3's process (arXiv 2211.14842): the tokens of a picture and of its caption in one state, of which either may be
given, or parts of both."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypedDict

import numpy as np
from msgspec import Meta

from ...bundle.records import Count
from ...errors import InputError
from ...inputs.option import (
    CallContext,
    CallShape,
    NamedTensors,
    Option,
    PreparedInputs,
    Shape,
    is_count,
    options_of,
    short,
)
from ...media.pictures import several
from ...media.prompts.cleaning import cleaned_prompt
from ..log_probabilities import log_softmax, truncated
from ..mask_replace import MaskReplace
from ..network_calls import MOST_TIMESTEPS, TokenCall
from ..sampler import TokenRun, TokenStep, TokenWalk
from .modality import Modality, modalities

UNKNOWN_WORD = "<mask>"
"""Stands in a prompt for a token that is to be drawn."""
RENOISING_STRIDE = 10
"""Of the loop `renoise`, where a run says nothing."""
RATES = {"picture": 0.86, "caption": 0.6, "completion": 0.7}
"""The truncation of the authors' loops: pictures from captions, captions from pictures, and what lacks parts."""
PAIR_RATES, STRIDED_PAIR_RATE = {"posterior": 0.88, "chain": 0.84, "renoise": 0.85}, 0.85
"""That of their loops for pairs, at every timestep and where some are left out."""

Task = Literal["picture", "caption", "pair", "completion"]
"""What a run draws: a picture from a caption, a caption from a picture, both, or what is lacking in them."""
Loop = Literal["posterior", "chain", "renoise"]


class JointOptions(TypedDict, total=False):
    """How a picture and its caption are drawn together."""

    loop: Annotated[
        str | None,
        Option(
            "choice",
            "How picture and caption are drawn together: from the posterior; likewise, with a truncation and last "
            "steps of its own (chain); or by the noise that belongs on what the network expects (renoise).",
            choices=tuple(PAIR_RATES),
        ),
    ]


@dataclass(frozen=True, slots=True)
class Given:
    """What a run starts from: `state`, int64 [1 or count, L], masks where something is drawn; what of it is `known`,
    bool of that shape, and stays."""

    state: np.ndarray
    known: np.ndarray


@dataclass(frozen=True, slots=True)
class JointDiffusion:
    """A state of `image_length` tokens of a picture, then `text_length` of a caption; its ids are the picture's
    classes, then the caption's, then the mask.

    The network says `image_logits` [count, image_length, image_classes] and `text_logits` [count, text_length,
    text_classes]. The slots `draws_image` and `draws_text`, bool [1], tell it what is drawn: a caption is not where
    there is a whole prompt and no picture. A run reads `start_tokens`, int64 [1 or count, image_length], and where not
    all of them stay `known`, bool of that shape; and `input_ids`, int64 [1 or count, text_length], of which
    `text_classes` is a token to be drawn.

    Random draws: `image` and `text`, uniform [length, image_classes + text_classes + 1] for the length of each, at each
    network call, where a part of it is drawn. The authors' code draws from states that are sure, too, at the start of
    every loop and a second time in a step of one; nothing can come of these draws but what was there.
    """

    KEY: ClassVar[str] = "sampler"
    OUTPUTS: ClassVar[tuple[str, ...]] = ("image_logits", "text_logits")
    OPTIONS: ClassVar[tuple[Option, ...]] = (
        *(option for option in MaskReplace.OPTIONS if option.name in ("fast", "truncation", "untruncated")),
        *options_of(JointOptions),
    )

    name: Literal["joint"] = field(default="joint", init=False)
    image_length: Count
    image_classes: Count
    text_length: Count
    text_classes: Count
    steps: Annotated[int, Meta(ge=2, le=MOST_TIMESTEPS)] = 500

    @property
    def parts(self) -> dict[str, Modality]:
        """The modalities, by the names of their random draws, with which those of their logits begin."""
        return modalities(self.image_length, self.image_classes, self.text_length, self.text_classes, self.steps)

    def problems(self) -> list[str]:
        """None: it walks with any numbers."""
        return []

    def slots(self) -> tuple[str, ...]:
        return ("draws_image", "draws_text")

    def describe(self) -> str:
        return (
            f"mask and replace over {self.image_length} tokens of a picture and {self.text_length} of a caption, "
            f"{self.steps} timesteps"
        )

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        values, picture = call.values, bool({"start_pixels", "start_tokens"} & made.slots.keys())
        words = _is_whole(call.prompt)
        made.slots |= {"draws_image": np.array([True]), "draws_text": np.array([picture or not words])}
        if words and picture and "known" not in made.slots:
            made.problems.append(
                f"prompt: expected something to draw, got the whole caption and the whole picture; put {UNKNOWN_WORD} "
                "for what the caption lacks, give a mask, or leave one of the two out"
            )
        if (picture or call.prompt is not None) and values["loop"] is not None:
            made.problems.append("loop: is for pictures and captions drawn together; leave it out, or prompt and image")
        if call.grid[0] * call.grid[1] != self.image_length + self.text_length:
            made.problems.append(
                f"plan: expected a state of {self.image_length} and {self.text_length} tokens, got one of "
                f"{call.grid[0]} x {call.grid[1]}; export the bundle again"
            )
        made.problems += self._count_problems(values)

    def stand_in(self) -> dict[str, Any]:
        return {}

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {name: (1,) for name in self.slots()}

    def drawn(self, prompt: str | None, values: Mapping[str, Any]) -> tuple[str, ...]:
        """What a call draws, `picture` and `text`, neither of them where it is given whole."""
        started = bool(several(values.get("image"))) or values.get("tokens") is not None
        whole = {"picture": started and values.get("mask") is None, "text": _is_whole(prompt)}
        return tuple(kind for kind, given in whole.items() if not given)

    def step_count(self, run: TokenRun) -> int:
        """Network calls of a run."""
        return len(self._calls(run.values))

    def walk(self, run: TokenRun) -> TokenWalk:
        """One step a network call; what is given stands in every state."""
        given, parts = self._given(run), self.parts
        task = _task(given.known, self.image_length, bool(run.slots["draws_text"].all()))
        loop: Loop = run.values["loop"] or "posterior"
        rate = self._rate(run.values, task, loop)
        drawn = {name: part for name, part in parts.items() if not given.known[:, part.places].all()}
        state = np.repeat(given.state, run.count // len(given.state), axis=0)
        calls = self._calls(run.values)
        for call in calls:
            said = run.predict(state, call.timestep)
            before, state = state, state.copy()
            for name, part in drawn.items():
                log_x0 = log_softmax(said[f"{name}_logits"])
                if rate is not None:
                    log_x0 = truncated(log_x0, rate)
                if loop == "renoise":
                    earlier = part.renoised(log_x0, call.timestep)
                else:
                    earlier = part.posterior(log_x0, before, call.posterior_timestep, task == "picture")
                uniform = run.noise.uniform(name, (part.length, part.mask + 1))
                state[:, part.places] = part.draw(earlier, before, uniform)
            state = np.where(given.known, given.state, state)
            if call is calls[-1]:
                state[:, parts["image"].places] = _picture(state, said, parts["image"])
            sent = yield TokenStep(call.timestep, state, partial(_likely, given, state, said, drawn))
            state = state if sent is None else sent

    def _given(self, run: TokenRun) -> Given:
        """What the slots hold. Raises InputError for tokens that are none of a state's."""
        parts, read = self.parts, {"image": run.slots.get("start_tokens"), "text": run.slots.get("input_ids")}
        state, known = np.full((1, run.length), parts["image"].mask), np.zeros((1, run.length), bool)
        for name, tokens in read.items():
            if tokens is None:
                continue
            part, most = parts[name], parts[name].classes - (name == "image")
            fits = tokens.shape in ((1, part.length), (run.count, part.length))
            if not fits or tokens.min() < 0 or tokens.max() > most:
                expected = f"int64 [1 or {run.count}, {part.length}] from 0 to {most}"
                got = f"{list(tokens.shape)} from {tokens.min(initial=0)} to {tokens.max(initial=0)}"
                raise InputError(f"{name} tokens: expected {expected}, got {got}; make them with this bundle")
            stays = tokens < part.classes
            if name == "image" and "known" in run.slots:
                stays = np.broadcast_to(run.slots["known"], tokens.shape)
            rows = max(len(state), len(tokens))
            state, known = (np.repeat(array, rows // len(array), axis=0) for array in (state, known))
            state[:, part.places] = part.joint(np.where(stays, tokens, part.classes))
            known[:, part.places] = stays
        return Given(state, known)

    def _rate(self, values: Mapping[str, Any], task: Task, loop: Loop) -> float | None:
        """The truncation of a run, None where it draws from all classes."""
        if values["untruncated"]:
            return None
        given: float | None = values["truncation"]
        if given is not None:
            return given
        if task != "pair":
            return RATES[task]
        return PAIR_RATES[loop] if self._stride(values) == 1 else STRIDED_PAIR_RATE

    def _calls(self, values: Mapping[str, Any]) -> list[TokenCall]:
        """From the last multiple of the stride downwards, the last timestep where none is left out.

        With a stride the posterior is that of the next timestep visited, as in the authors' code, whose `chain` makes
        an exception of the last but one.
        """
        stride = self._stride(values)
        last = stride if values["loop"] == "chain" else stride - 1
        visited = range((self.steps - 1) // stride * stride, -1, -stride)
        return [TokenCall(t, t - stride if stride > 1 and t > last else t) for t in visited]

    def _stride(self, values: Mapping[str, Any]) -> int:
        """The distance of the timesteps visited; a number of steps stands for the smallest that makes so many."""
        fast, count = values["fast"], values["steps"]
        if fast is None and count is not None:
            return -(-self.steps // int(count))
        return fast or (min(RENOISING_STRIDE, self.steps) if values["loop"] == "renoise" else 1)

    def _count_problems(self, values: Mapping[str, Any]) -> Iterator[str]:
        """Strides and numbers of steps that do not fit the timesteps, or one another."""
        fast, count = values["fast"], values["steps"]
        if values["untruncated"] and values["truncation"] is not None:
            yield "truncation: is switched off by untruncated; give one of the two"
        if fast is not None and fast > self.steps:
            yield f"fast: expected at most the {self.steps} timesteps of this bundle, got {fast}"
        elif count is not None and not is_count(count, self.steps):
            yield f"steps: expected a whole number from 1 to {self.steps}, got {short(count)}"
        elif count is not None and (made := len(self._calls(values))) != count:
            yield f"steps: expected a number that some stride makes, such as {made}, got {count}"


def _is_whole(prompt: Any) -> bool:
    """Whether nothing of a prompt is to be drawn; what is no text is told elsewhere."""
    return isinstance(prompt, str) and UNKNOWN_WORD not in cleaned_prompt(prompt)


def _task(known: np.ndarray, image_length: int, draws_text: bool) -> Task:
    """What is drawn of states [..., L] of which some is known."""
    if not draws_text:
        return "picture"
    if not known.any():
        return "pair"
    whole_picture_alone = known[:, :image_length].all() and not known[:, image_length:].any()
    return "caption" if whole_picture_alone else "completion"


def _picture(state: np.ndarray, said: NamedTensors, image: Modality) -> np.ndarray:
    """The last tokens of a picture, int64 [count, image_length], with the likeliest class where there is none.

    `renoise` leaves a mask in one of a hundred pictures; the authors' codec fails then.
    """
    tokens = state[:, image.places]
    return np.where(tokens < image.classes, tokens, said["image_logits"].argmax(axis=-1))


def _likely(given: Given, state: np.ndarray, said: NamedTensors, drawn: Mapping[str, Modality]) -> np.ndarray:
    """The clean tokens that the network expects, int64 [count, L]."""
    tokens = state.copy()
    for name, part in drawn.items():
        tokens[:, part.places] = part.joint(said[f"{name}_logits"].argmax(axis=-1))
    return np.where(given.known, given.state, tokens)
