"""What a run gives: its steps, the pictures, and how long each stage took."""

import time
import wave
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from .errors import InputError
from .files.writing import Write, check_targets, save_all
from .media.parameters import Parameters
from .media.picture_files import check_picture_name, save_picture

SUFFIXES = {"sound": ".wav", "text": ".txt", "tokens": ".npy"}
"""Of files that are no pictures, by what a run gives."""


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of work: its name, and when it began and ended, in seconds of `time.perf_counter`."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.start


class Timings:
    """`with timings("denoise"):` adds the block's time to that stage."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        """Every block, in the order they ended; each denoising step is one."""

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spans.append(Span(stage, start, time.perf_counter()))

    def seconds(self) -> dict[str, float]:
        """Seconds per stage in the order they ran, and their `total`."""
        stages: dict[str, float] = {}
        for span in self.spans:
            stages[span.name] = stages.get(span.name, 0.0) + span.seconds
        return stages | {"total": sum(stages.values())}


@dataclass(frozen=True, slots=True)
class Sound:
    """`samples` float32 [n], about -1 to 1, at `rate` Hz."""

    samples: np.ndarray
    rate: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return len(self.samples) / self.rate


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a state was decoded to, each kind with one entry for each row, or none."""

    images: list[Image.Image] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)

    def __add__(self, other: "Decoded") -> "Decoded":
        return Decoded(self.images + other.images, self.sounds + other.sounds, self.texts + other.texts)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run: the state after it is `latents`, float32 [count, C, h, w], or `tokens`, int64 [count, length],
    as the bundle walks one or the other."""

    index: int
    count: int
    timestep: float
    latents: np.ndarray | None
    preview: Callable[[], list[Any]]
    """Decodes what the network currently predicts, one image for each picture drawn; of a bundle without pictures one
    text, or one Sound."""
    tokens: np.ndarray | None = None

    @property
    def state(self) -> np.ndarray:
        """The latents, or the tokens."""
        found = self.latents if self.tokens is None else self.tokens
        assert found is not None, "a step without a state"
        return found


@dataclass(frozen=True, slots=True)
class Output:
    """What a run gives: `images` (PIL, RGB or grey), `latents` float32 [count, C, h, w] before decoding, `timings` in
    seconds per stage, `warnings`, one line each, behind each call of the network the number of its segment (`segments`)
    and the graph (`graphs`), and when each stage and each step ran (`spans`).

    A bundle that walks tokens gives `tokens`, int64 [count, length], and no latents, and what its plan makes of them:
    images, `texts`, `sounds`. `parameters` say of each image what it alone is drawn again with; there are none where
    the run was left before its end, or another's tokens were sent in.
    """

    images: list[Image.Image]
    latents: np.ndarray | None
    timings: dict[str, float]
    warnings: tuple[str, ...]
    segments: tuple[int, ...]
    graphs: tuple[str, ...] = ()
    spans: tuple[Span, ...] = ()
    tokens: np.ndarray | None = None
    texts: list[str] = field(default_factory=list)
    sounds: list[Sound] = field(default_factory=list)
    parameters: tuple[Parameters, ...] = ()

    def save(self, path: str | Path, parameters: bool = True) -> list[Path]:
        """Writes the pictures, the sounds (`.wav`), the texts (`.txt`) or the tokens (`.npy`), whichever the name's
        suffix says, and returns the files: one result goes to `path`, several get -1, -2, ... before the suffix.

        A PNG, JPEG, WebP, AVIF or TIFF holds what it was drawn from, the prompt among it, unless `parameters` is False.
        Raises InputError, before anything is written, for a name that is none of what the run gave, and where a file
        cannot be written; all are written, or none.
        """
        path = Path(path)
        given: dict[str, list[Any]] = {
            "picture": self.images,
            "sound": self.sounds,
            "text": self.texts,
            "tokens": _token_rows(self),
        }
        kind = written_kind([kind for kind, results in given.items() if results], path)
        paths = numbered_paths(path, len(given[kind]))
        check_targets(paths)
        save_all(writes_of(self, kind, paths, parameters))
        return paths


def writes_of(output: Output, kind: str, paths: list[Path], parameters: bool = True) -> dict[Path, Write]:
    """How each result of a kind, `picture` or one of SUFFIXES, is written to its path."""
    made: list[Write]
    if kind == "picture":
        records = output.parameters if parameters and output.parameters else (None,) * len(output.images)
        made = [
            partial(save_picture, image, path.suffix, parameters=one)
            for image, path, one in zip(output.images, paths, records, strict=True)
        ]
    elif kind == "sound":
        made = [partial(save_sound, sound) for sound in output.sounds]
    elif kind == "text":
        made = [partial(_write_text, text) for text in output.texts]
    else:
        made = [partial(write_array, row) for row in _token_rows(output)]
    return dict(zip(paths, made, strict=True))


def _token_rows(output: Output) -> list[np.ndarray]:
    return [] if output.tokens is None else [*output.tokens]


def written_kind(kinds: Sequence[str], path: Path) -> str:
    """Which of the `kinds` that a run gives, `picture` or one of SUFFIXES, a file of this name holds. Raises InputError
    for a name that is none of theirs."""
    kind = next((kind for kind in kinds if path.suffix == SUFFIXES.get(kind)), kinds[0])
    if kind == "picture":
        check_picture_name(path)
    elif path.suffix != SUFFIXES[kind]:
        got = path.suffix or "no suffix"
        raise InputError(
            f"{path}: expected a name such as a{SUFFIXES[kind]} for {kind}, which this run gives, got {got!r}; rename "
            "it"
        )
    return kind


def numbered_paths(path: Path, count: int) -> list[Path]:
    """One result goes to `path`; several get -1, -2, ... before the suffix."""
    return [path] if count == 1 else [path.with_name(f"{path.stem}-{i + 1}{path.suffix}") for i in range(count)]


def to_uint8(decoded: np.ndarray, rounding: str) -> np.ndarray:
    """float [B, C, H, W] in -1..1 to uint8 [B, H, W, C].

    "truncate" drops the fraction as the CompVis scripts do; "round" takes the nearest level as diffusers does.
    """
    levels = np.clip((decoded.astype(np.float32) + 1.0) / 2.0, 0.0, 1.0) * np.float32(255.0)
    if rounding == "round":
        levels = levels.round()
    return levels.astype(np.uint8).transpose(0, 2, 3, 1)


def to_images(decoded: np.ndarray, rounding: str) -> list[Image.Image]:
    """Decoded pictures, float [B, 3, H, W] in -1..1, as B RGB images; [B, 1, H, W] as grey ones. `rounding` is as in
    `to_uint8`."""
    pictures = to_uint8(decoded, rounding)
    return [Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels) for pixels in pictures]


PCM_SCALE = 2**23
"""Full scale of 24 bits."""


def save_sound(sound: Sound, stream: BinaryIO) -> None:
    """Writes a sound as WAV, one channel of 24 bits; what is louder than full scale is cut.

    The bits are libsndfile's, with which authors write: it rounds to 32 bits and drops the last 8.
    """
    levels = np.floor(np.rint(sound.samples.astype(np.float64) * PCM_SCALE * 256) / 256)
    levels = np.clip(levels, -PCM_SCALE, PCM_SCALE - 1).astype("<i4")
    with wave.open(stream, "wb") as written:
        written.setnchannels(1)
        written.setsampwidth(3)
        written.setframerate(sound.rate)
        written.writeframes(levels.view(np.uint8).reshape(-1, 4)[:, :3].tobytes())


def write_array(array: np.ndarray, stream: BinaryIO) -> None:
    """Writes an array as `.npy`."""
    np.save(stream, array)


def _write_text(text: str, stream: BinaryIO) -> None:
    stream.write(f"{text}\n".encode())
