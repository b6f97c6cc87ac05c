"""Bad random draws, and other bad arrays, for the systems that walk tokens."""

import pickle
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from io import BytesIO
from typing import Any
from unittest import mock

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from x2i.runtime.load import load
from x2i.runtime.token_samplers.noise import TokenNoise

from .case import Case
from .held import Command, refused_or_drawn
from .media import ODD_NOISE, Make, archive, cut, flipped, given, npy_bytes
from .room import Room
from .systems import SYSTEMS, drawing
from .values import drawn

Draws = Mapping[str, np.ndarray]
ARRAYS = (
    ("tokens", "vq-ddm"),
    ("tokens", "muse"),
    ("tokens", "vq-diffusion"),
    ("motion", "cdcd-music"),
    ("video", "cdcd-music"),
)
"""Options that take an array, each with a system that takes it."""


def draw_cases(systems: Sequence[str]) -> Iterator[Case]:
    """`.npz` files for `--noise` of every system that walks tokens, and `.npy` files for their other options."""
    for system in (system for system in systems if SYSTEMS[system].walks_tokens):
        for name, make in ODD_DRAWS.items():
            yield Case("noise", f"{system} {name}", partial(_drawn_with, system, make))
        for number in range(12):
            yield Case("noise", f"{system} damaged {number}", partial(_drawn_with, system, partial(_damaged, number)))
    for option, system in ARRAYS:
        if system in systems:
            for name, make in _odd_arrays(option, system).items():
                case = f"{system} {name}"
                yield given(
                    "noise", case, f"--{option}", system, ".npy", make, *_strength(option, system), without=option
                )


def _strength(option: str, system: str) -> tuple[str, ...]:
    return ("--strength", "0.5") if option == "tokens" and "strength" in options_of(system) else ()


@cache
def options_of(system: str) -> frozenset[str]:
    """The options that a system's bundle takes."""
    from x2i.runtime.bundle.reader import open_bundle

    return frozenset(open_bundle(SYSTEMS[system].source(), check_files=False).manifest.plan.options())


def _drawn_with(system: str, make: Callable[[Draws], bytes], room: Room) -> str | None:
    path = room.work / "given.npz"
    good = drawing(room, system)
    path.write_bytes(make(_recorded(room, system)))
    # A file may hold the draws of several.
    may_write = [str(out.with_name(f"{out.stem}*{out.suffix}")) for out in good.outputs]
    return refused_or_drawn(room, Command([*good.arguments, "--noise", str(path)], (), may_write))


_RECORDED: dict[str, Draws] = {}


def _recorded(room: Room, system: str) -> Draws:
    """Every draw of the quick run by its name; one that nothing reads where nothing is random."""
    if system not in _RECORDED:
        found: defaultdict[str, list[np.ndarray]] = defaultdict(list)
        wholes = {name: getattr(TokenNoise, name) for name in ("uniform", "exponential")}

        def recorder(kind: str) -> Any:
            def record(noise: TokenNoise, name: str, shape: tuple[int, ...]) -> np.ndarray:
                found[name].append(wholes[kind](noise, name, shape))
                return found[name][-1]

            return record

        with mock.patch.multiple(TokenNoise, uniform=recorder("uniform"), exponential=recorder("exponential")):
            asked = SYSTEMS[system]
            options = {"prompt": asked.prompt, **asked.good, **asked.quick}
            arrays = {n: np.load(room.work / v) for n, v in options.items() if str(v).endswith(".npy")}
            load(room.bundle(system), "cpu", 1)(**(options | arrays))
        _RECORDED[system] = {name: np.stack(draws) for name, draws in found.items()} or {"none": np.ones((1, 1, 2))}
    return _RECORDED[system]


def _all(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Draws], bytes]:
    return lambda draws: archive(**{name: change(array) for name, array in draws.items()})


def _first(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Draws], bytes]:
    """The first array changed, the others as they are."""

    def make(draws: Draws) -> bytes:
        first = next(iter(draws))
        return archive(**{**draws, first: change(draws[first])})

    return make


def _zipped(content: bytes, name: str = "draw.npy") -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(name, content)
    return stream.getvalue()


def _damaged(number: int, draws: Draws) -> bytes:
    content = archive(**draws)
    return [*(cut(content, 6) | flipped(content, 6, len(draws))).values()][number]()


class _Opens:
    """A pickle that makes a file while it is read."""

    def __reduce__(self) -> Any:
        return open, ("ran", "w")


ODD_DRAWS: dict[str, Callable[[Draws], bytes]] = {
    "as they were": _all(lambda draws: draws),
    "of doubles": _all(lambda draws: draws.astype(np.float64)),
    "of halves": _all(lambda draws: draws.astype(np.float16)),
    "of other byte order": _all(lambda draws: draws.astype(">f4")),
    "of whole numbers": _all(lambda draws: draws.astype(np.int64)),
    "of truths": _all(lambda draws: draws > 0.5),
    "of texts": _all(lambda draws: np.full(draws.shape[:3], "1.0")),
    "of complex numbers": _all(lambda draws: draws.astype(np.complex64)),
    "of dates": _all(lambda draws: np.zeros(draws.shape[:3], "datetime64[s]")),
    "NaN": _all(lambda draws: np.full_like(draws, np.nan)),
    "infinite": _first(lambda draws: np.full_like(draws, np.inf)),
    "negative": _first(lambda draws: -draws),
    "zero": _all(np.zeros_like),
    "one": _all(np.ones_like),
    "five": _first(lambda draws: np.full_like(draws, 5)),
    "the largest numbers": _all(lambda draws: np.full_like(draws, 3e38)),
    "too large for float32": _all(lambda draws: np.full(draws.shape, 1e200)),
    "denormal": _all(lambda draws: np.full_like(draws, 1e-45)),
    "one too few": _first(lambda draws: draws[:-1]),
    "none": _first(lambda draws: draws[:0]),
    "more than are read": _all(lambda draws: np.concatenate([draws, draws])),
    "of two pictures": _all(lambda draws: np.concatenate([draws, draws], axis=1)),
    "of two pictures in one name": _first(lambda draws: np.concatenate([draws, draws], axis=1)),
    "of five thousand pictures": _all(lambda draws: np.ones((1, 5000, *[1] * (draws.ndim - 2)), np.float32)),
    "of no pictures": _all(lambda draws: draws[:, :0]),
    "of another length": _first(lambda draws: draws[:, :, :-1]),
    "of other classes": _first(lambda draws: draws[..., :-1]),
    "without axes": _all(lambda draws: np.float32(0.5) * np.ones(())),
    "in a row": _all(np.ravel),
    "with another axis": _all(lambda draws: draws[None]),
    "of many axes": _all(lambda draws: np.ones((1,) * 30, np.float32)),
    "by another name": lambda draws: archive(**{f"{name}s": array for name, array in draws.items()}),
    "by a name more": lambda draws: archive(**draws, other=np.ones((1, 1, 2), np.float32)),
    "by an odd name": lambda draws: archive(**draws, **{"\x1b[31m\n" + "n" * 3000: np.ones((1, 1, 2), np.float32)}),
    "by no name": lambda draws: archive(),
    "by an empty name": lambda draws: archive(**{"": np.ones((1, 1, 2), np.float32)}),
    "objects": lambda draws: archive(draw=np.array([{}, None], object)),
    "a pickle": lambda draws: _zipped(pickle.dumps(_Opens())),
    "a pickle for an array": lambda draws: _zipped(npy_bytes(np.array([_Opens()], object))),
    "a pickle for the file": lambda draws: pickle.dumps(_Opens()),
    "a text": lambda draws: _zipped(b"not an array"),
    "a text beside them": lambda draws: _zipped(b"not an array", "notes.txt"),
    "a way out": lambda draws: _zipped(npy_bytes(np.ones((1, 1, 2), np.float32)), "../../ran.npy"),
    "megabytes of zeros": lambda draws: archive(draw=np.zeros((16, 1, 1024, 1024), np.float32)),
    "an array": lambda draws: npy_bytes(next(iter(draws.values()))),
    "empty": lambda draws: b"",
    **{
        f"{name} for an array": partial(lambda make, draws: _zipped(make()), make)
        for name, make in ODD_NOISE.items()
        if "gigabyte" not in name
    },
}


def _odd_arrays(option: str, system: str) -> dict[str, Make]:
    """`.npy` files of every kind and shape, some of them nearly right."""
    shapes = {"tokens": (5, 5), "motion": (12, 5), "video": (6,)}
    good = np.ones(shapes[option], np.int64 if option == "tokens" else np.float32)
    found: dict[str, Make] = cut(npy_bytes(good), 6) | flipped(npy_bytes(good), 12, len(system))
    kinds = st.one_of(npst.scalar_dtypes(), npst.array_dtypes())
    sizes = st.one_of(npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=13), st.just(shapes[option]))
    for number, array in enumerate(drawn(npst.arrays(kinds, sizes), 20, len(option))):
        found[f"{number} of {str(array.dtype)[:20]} {array.shape}"] = partial(npy_bytes, array)
    for name, array in {
        "good": good,
        "NaN": np.full(good.shape, np.nan),
        "infinite": np.full(good.shape, np.inf, np.float32),
        "the largest numbers": np.full(good.shape, 3e38, np.float32),
        "beyond float32": np.full(good.shape, 1e300),
        "negative": -good,
        "the largest whole numbers": np.full(good.shape, 2**63 - 1),
        "unsigned ones": np.full(good.shape, 2**64 - 1, np.uint64),
        "truths": good > 0,
        "a row": good.ravel(),
        "two of them": np.stack([good, good]),
        "wide": np.ones((1, 100_000), good.dtype),
        "nothing": good[:0],
    }.items():
        found[name] = partial(npy_bytes, array)
    return found | {name: make for name, make in ODD_NOISE.items() if "header" in name or "archive" in name}
