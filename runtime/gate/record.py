"""What the manifest says of the gate: the runs, what fp32 drew, how close the bundle came, and what was allowed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from ..bundle.records import Amount, Count, Finite, Share
from ..inputs.registry import run_options

OWN_FILES = ("noise", "latents", "picture", "states")


@dataclass(frozen=True, slots=True)
class Case:
    """One run, as `x2i.runtime.Pipeline` takes it, and what fp32 drew.

    `noise`, `latents` (`.npy`, float32 [1, C, h, w]) and `picture` (`.png`) are files of the bundle; a walk through
    tokens has instead of the first two its `states` after each step (`.npy`, int64 [steps, length]), and a picture
    where it draws one. `options` are the run's by their names; pictures and sounds are files there, too (`.png`, and
    `.npy`, [n, channels], at `rate` samples a second). In a manifest the options stand beside the rest.
    """

    noise: str | None = None
    latents: str | None = None
    picture: str | None = None
    states: str | None = None
    prompt: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    rate: int | None = None

    def files(self) -> list[str]:
        """Every file of the bundle that the case needs."""
        known, found = run_options(), [name for kind in OWN_FILES if (name := getattr(self, kind)) is not None]
        for name, value in self.options.items():
            if known[name].is_file:
                found += value if known[name].several else [value]
        return found

    @classmethod
    def key_types(cls) -> dict[str, Any]:
        options = {name: option.json_type | None for name, option in run_options().items() if option.stored}
        own = {name: str | None for name in OWN_FILES}
        return {**options, **own, "prompt": str | None, "rate": Count | None}

    @classmethod
    def required_keys(cls) -> frozenset[str]:
        return frozenset()

    @classmethod
    def from_keys(cls, values: Mapping[str, Any]) -> Self:
        options = {name: value for name, value in values.items() if name not in {*OWN_FILES, "prompt", "rate"}}
        own = {name: values.get(name) for name in (*OWN_FILES, "prompt", "rate")}
        return cls(**own, options=options)

    def to_keys(self) -> dict[str, Any]:
        """What says nothing is left out."""
        known = run_options()
        given = {name: self.options[name] for name in known if name in self.options}
        changed = {name: value for name, value in given.items() if not known[name].is_default(value) and value != ()}
        own = {name: value for name in OWN_FILES if (value := getattr(self, name)) is not None}
        beside = {"prompt": self.prompt} if self.prompt is not None else {}
        return own | beside | changed | ({} if self.rate is None else {"rate": self.rate})


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a run may be from fp32's: relative L2 of the latents at most, PSNR (dB) and SSIM of the picture at
    least; of tokens the share, 0 to 1, that must be fp32's after a step from its state, at least."""

    latents: Amount
    psnr: Finite
    ssim: Finite
    tokens: Share = 0.0


@dataclass(frozen=True, slots=True)
class Closeness:
    """How far a run is from fp32's: relative L2 of the latents, PSNR in dB (None: the same picture, or none) and SSIM
    (None: no picture). Of a walk through tokens there are no latents, but the share of `tokens` that are fp32's after
    each step from its state."""

    latents: Amount | None
    psnr: Finite | None
    ssim: Finite | None
    tokens: Share | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """Drawings of one kind, each drawn by fp32 and by the bundle from the same noise.

    Accuracies are the shares (0 to 1) in which a judge names what was asked; CLIP scores are mean cosines of drawing
    and caption.
    """

    name: str
    drawings: Count
    fp32_accuracy: Share
    accuracy: Share
    fp32_clip_score: Finite
    clip_score: Finite


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge that knows what was asked says of fp32 and of the bundle; `judge` says who, and in which space the
    cosine is taken. `within` is how many points (hundredths) of accuracy the bundle may lose over all drawings."""

    judge: str
    categories: tuple[Category, ...]
    within: Finite = 2.0

    @property
    def drawings(self) -> int:
        """How many drawings were judged."""
        return sum(category.drawings for category in self.categories)

    @property
    def lost(self) -> float:
        """Points of accuracy lost over all drawings; below zero where the bundle does better."""
        lost = sum((c.fp32_accuracy - c.accuracy) * c.drawings for c in self.categories)
        return 100 * lost / self.drawings if self.drawings else 0.0

    @property
    def passed(self) -> bool:
        """Whether no more accuracy is lost than may be."""
        # Shares add up to a hair more than their counts.
        return self.lost <= self.within + 1e-9


@dataclass(frozen=True, slots=True)
class Gate:
    """The cases, the limits, how close the bundle came on each (at export, on ONNX Runtime's CPU), and what a judge
    said, where there is one.

    `accepted` are the problems that the exporter was told to go on with, one line each; empty where the gate passed.
    """

    cases: tuple[Case, ...]
    limits: Limits
    measured: tuple[Closeness, ...]
    judged: Judged | None = None
    accepted: tuple[str, ...] = ()

    def files(self) -> list[str]:
        """Every file of the bundle that the gate needs."""
        return [name for case in self.cases for name in case.files()]
