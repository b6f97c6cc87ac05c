"""What the manifest says of the gate: the runs, what fp32 drew, how close the bundle came, and what was allowed."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One run, as `x2i.runtime.Pipeline` takes it, and what fp32 drew.

    `noise`, `latents` (`.npy`, float32 [1, C, h, w]) and `picture` (`.png`) are files of the bundle, as are `subject`,
    `mask`, `image`, `subjects` (pictures) and `sound` (`.npy`, [n, channels], at `rate` samples a second). All else is
    the option of the same name.
    """

    noise: str
    latents: str
    picture: str
    prompt: str | None = None
    language: str | None = None
    negative: str = ""
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    sampler: str | None = None
    subject: str | None = None
    mask: str | None = None
    soft_mask: bool = False
    image: tuple[str, ...] = ()
    word: str | None = None
    placement: str = "token"
    words: int = 1
    global_only: bool = False
    strength: float | None = None
    subjects: tuple[str, ...] = ()
    marker: str | None = None
    alpha: float | None = None
    start_merge_step: int | None = None
    object_resolution: int | None = None
    sound: str | None = None
    rate: int | None = None

    def files(self) -> list[str]:
        """Every file of the bundle that the case needs."""
        single = (self.noise, self.latents, self.picture, self.subject, self.mask, self.sound)
        return [name for name in (*single, *self.image, *self.subjects) if name is not None]


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a run may be from fp32's: relative L2 of the latents at most, PSNR (dB) and SSIM of the picture at
    least."""

    latents: float
    psnr: float
    ssim: float


@dataclass(frozen=True, slots=True)
class Closeness:
    """How far a run is from fp32's: relative L2 of the latents, PSNR in dB (None: the same picture) and SSIM."""

    latents: float
    psnr: float | None
    ssim: float


@dataclass(frozen=True, slots=True)
class Category:
    """Drawings of one kind, each drawn by fp32 and by the bundle from the same noise.

    Accuracies are the shares (0 to 1) in which a judge names what was asked; CLIP scores are mean cosines of drawing
    and caption.
    """

    name: str
    drawings: int
    fp32_accuracy: float
    accuracy: float
    fp32_clip_score: float
    clip_score: float


@dataclass(frozen=True, slots=True)
class Judged:
    """What a judge that knows what was asked says of fp32 and of the bundle; `judge` says who, and in which space the
    cosine is taken. `within` is how many points (hundredths) of accuracy the bundle may lose over all drawings."""

    judge: str
    categories: tuple[Category, ...]
    within: float = 2.0

    @property
    def drawings(self) -> int:
        return sum(category.drawings for category in self.categories)

    @property
    def lost(self) -> float:
        """Points of accuracy lost over all drawings; below zero where the bundle does better."""
        lost = sum((c.fp32_accuracy - c.accuracy) * c.drawings for c in self.categories)
        return 100 * lost / self.drawings

    @property
    def passed(self) -> bool:
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
