"""A dance to draw music to: the dancer's motion, what a video network saw, and the genre (CDCD, arXiv 2206.07771)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypedDict

import numpy as np

from ..bundle.records import Count
from .option import CallContext, CallShape, Option, PreparedInputs, Shape, is_index, options_of, short


class DanceOptions(TypedDict, total=False):
    """What is danced."""

    motion: Annotated[
        np.ndarray | None,
        Option("array", "Motion to draw music to: .npy, [frames, features], 60 frames a second."),
    ]
    video: Annotated[np.ndarray | None, Option("array", "Features of the dance's video: .npy, [features].")]
    genre: Annotated[
        int | None,
        Option("count", "Number of the dance's genre, from 0, as its data set counts them.", checked_by_input=True),
    ]


@dataclass(frozen=True, slots=True)
class DanceInput:
    """A dance as the slots `motion`, float32 [1, frames, features], `video`, float32 [1, 1, video_features], and
    `genre`, int64 [1]."""

    KEY: ClassVar[str] = "dance"
    OPTIONS: ClassVar[tuple[Option, ...]] = options_of(DanceOptions)

    frames: Count
    features: Count
    video_features: Count
    genres: Count

    def slots(self) -> tuple[str, ...]:
        return ("motion", "video", "genre")

    def describe(self) -> str:
        return f"dance, {self.frames} frames of {self.features}, a video's {self.video_features}, {self.genres} genres"

    def prepare(self, call: CallContext, made: PreparedInputs) -> None:
        shapes = {"motion": (self.frames, self.features), "video": (1, self.video_features)}
        for name, shape in shapes.items():
            array = call.values[name]
            if problem := _problem(name, array, shape):
                made.problems.append(problem)
            else:
                made.slots[name] = np.asarray(array, np.float32).reshape(1, *shape)
        genre = call.values["genre"]
        if is_index(genre, self.genres):
            made.slots["genre"] = np.array([genre], np.int64)
        else:
            got = "none; say which" if genre is None else short(genre)
            made.problems.append(f"genre: expected a whole number from 0 to {self.genres - 1}, got {got}")

    def stand_in(self) -> dict[str, Any]:
        """A dance that nobody moves to."""
        random = np.random.default_rng(0)
        return {
            "motion": random.standard_normal((self.frames, self.features), np.float32),
            "video": random.standard_normal(self.video_features, np.float32),
            "genre": 0,
        }

    def shapes(self, call: CallShape, known: Mapping[str, Shape]) -> dict[str, Shape]:
        return {"motion": (1, self.frames, self.features), "video": (1, 1, self.video_features), "genre": (1,)}


def _problem(name: str, array: Any, shape: tuple[int, int]) -> str | None:
    """Why an array is none of this shape; axes of one may be there or not."""
    expected = [side for side in shape if side != 1]
    if array is None:
        return f"{name}: expected an array {expected}, which this bundle draws from, got none; give {name}"
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        got = f"{array.dtype} {list(array.shape)}" if isinstance(array, np.ndarray) else short(array)
        return f"{name}: expected an array of numbers {expected}, got {got}; give it as its network made it"
    if [side for side in array.shape if side != 1] != expected:
        return f"{name}: expected {expected}, got {list(array.shape)}; cut it to what this bundle was trained on"
    return None if np.isfinite(array).all() else f"{name}: expected finite numbers, got NaN or infinite ones; mend it"
