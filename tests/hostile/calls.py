"""Python's door: every argument of `load` and every keyword of a Pipeline with values of every wrong kind."""

from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from x2i.runtime import load
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.registry import run_options
from x2i.runtime.output import Output
from x2i.runtime.pipeline import Pipeline

from .case import Case
from .held import OF_OBJECTS, guarded, message_problem, traceback_problem
from .room import Room
from .systems import SYSTEMS, give_all
from .values import some

EVERYWHERE = ("prompt", "steps", "guidance", "noise", "size", "count", "seed", "negative", "sampler")
TOKENS_EVERY = 3
"""Of the values of a keyword that a walk through tokens takes so many make one case."""


def _within_itself() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def _deep() -> Any:
    found: Any = 1
    for _ in range(100_000):
        found = [found]
    return found


VALUES: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "0": lambda: 0,
    "-1": lambda: -1,
    "2**31": lambda: 2**31,
    "2**64": lambda: 2**64,
    "10**5000": lambda: 10**5000,
    "0.5": lambda: 0.5,
    "NaN": lambda: float("nan"),
    "infinity": lambda: float("inf"),
    "1e308": lambda: 1e308,
    "complex": lambda: 1j,
    "a Decimal": lambda: Decimal("NaN"),
    "a Fraction": lambda: Fraction(1, 3),
    "numpy's integer": lambda: np.int64(3),
    "numpy's byte": lambda: np.uint8(3),
    "numpy's NaN": lambda: np.float32("nan"),
    "numpy's truth": lambda: np.bool_(True),
    "empty text": lambda: "",
    "text": lambda: "abc",
    "long text": lambda: "x" * 1_000_000,
    "a surrogate": lambda: "\ud800",
    "a NUL": lambda: "a\0b",
    "escapes": lambda: "\x1b[31m\r\n\u202e",
    "bytes": lambda: b"abc\xff",
    "a path": lambda: Path("nothing.png"),
    "a folder": lambda: Path("."),
    "a path with a NUL": lambda: Path("a\0b"),
    "an empty list": list,
    "a list": lambda: [1, "a", None],
    "a list of NaN": lambda: [float("nan")] * 2,
    "a long list": lambda: [1] * 1_000_000,
    "a list in itself": _within_itself,
    "a deep list": _deep,
    "a tuple of two": lambda: (64, 64),
    "a tuple of huge numbers": lambda: (2**40, 2**40),
    "a tuple of halves": lambda: (64.5, 64.0),
    "a tuple of texts": lambda: ("64", "64"),
    "a dict": lambda: {"a": 1},
    "a set": lambda: {1, 2},
    "a generator": lambda: (i for i in range(3)),
    "a function": lambda: len,
    "a class": lambda: int,
    "an object": object,
    "an open file": lambda: open("/dev/null", "rb"),  # noqa: SIM115
    "an empty array": lambda: np.zeros((0,), np.float32),
    "an array without axes": lambda: np.float32(3) * np.ones(()),
    "an array": lambda: np.ones((1, 4, 8, 8), np.float32),
    "an array of bytes": lambda: np.ones((8, 8, 3), np.uint8),
    "an array of two axes": lambda: np.ones((8, 8)),
    "an array of NaN": lambda: np.full((1, 4, 8, 8), np.nan, np.float32),
    "an array of objects": lambda: np.array([{}, None], object),
    "an array of texts": lambda: np.array(["a", "b"]),
    "an array of many axes": lambda: np.ones((1,) * 30),
    "an array that is not its own": lambda: np.broadcast_to(np.float32(1), (1, 4, 2**20, 2**20)),
    "a memory view": lambda: memoryview(b"abc"),
    "a picture": lambda: Image.new("RGB", (9, 7)),
    "a picture of one row": lambda: Image.new("L", (5000, 1)),
    "a picture of no pixels": lambda: Image.new("RGB", (0, 0)),
    "a picture of floats": lambda: Image.fromarray(np.full((8, 8), np.nan, np.float32)),
    "a palette": lambda: Image.new("P", (8, 8)),
    "a closed picture": lambda: _closed(),
    "sound and rate": lambda: (np.ones(100, np.float32), 8000),
    "sound at no rate": lambda: (np.ones(100, np.float32), 0),
    "sound of NaN": lambda: (np.full(6000, np.nan, np.float32), 8000),
    "sound of many axes": lambda: (np.ones((3, 3, 3), np.float32), 8000),
    "sound without end": lambda: (np.broadcast_to(np.float32(0), (2**40,)), 8000),
}


def _closed() -> Image.Image:
    image = Image.new("RGB", (8, 8))
    image.close()
    return image


def call_cases(systems: Sequence[str]) -> Iterator[Case]:
    """Every keyword of a run on a bundle that takes it, unknown ones, and every argument of `load`."""
    names = ["prompt", "on_step", *run_options()]
    for number, name in enumerate(names):
        values = VALUES | {f"tree {tree!r:.40}": partial(_same, tree) for tree in some("trees", 4, number)}
        for how, make in values.items():
            if name == "on_step" and callable(make()):
                continue  # What a caller's own function raises is the caller's.
            yield Case("call", f"pipe {name}: {how}", partial(_call, system_of(name, systems), name, make))
    for system in (system for system in systems if SYSTEMS[system].walks_tokens):
        for number, name in enumerate([*EVERYWHERE, *sorted(_options(system))]):
            for how, make in list(VALUES.items())[number % TOKENS_EVERY :: TOKENS_EVERY]:
                yield Case("call", f"{system} {name}: {how}", partial(_call, system, name, make))
    for name in ("stepz", "Prompt", "__class__", "x" * 3000, "\x1b[31m", ""):
        yield Case("call", f"pipe unknown {name:.20}", partial(_call, "gluegen-text", name, lambda: 3))
    for name in ("folder", "backend", "threads", "text_bundle", "preset", "max_memory"):
        for how, make in VALUES.items():
            yield Case("call", f"load {name}: {how}", partial(_load, name, make))


def _same(value: Any) -> Any:
    return value


def system_of(option: str, systems: Sequence[str]) -> str:
    """A bundle that takes the option."""
    return next((name for name in systems if option in _options(name)), "gluegen-text")


@cache
def _options(system: str) -> set[str]:
    return open_bundle(SYSTEMS[system].source(), check_files=False).manifest.plan.options()


@cache
def _pipeline(folder: Path) -> Pipeline:
    return load(folder, "cpu", 1)


def _call(system: str, name: str, make: Callable[[], Any], room: Room) -> str | None:
    pipeline = _pipeline(room.bundle(system))
    keywords = _good(room, system) | {name: make()}
    return guarded(room, [], lambda: _refused_or_finite(lambda: pipeline(**keywords)))


def _good(room: Room, system: str) -> dict[str, Any]:
    """A good call: the files are there, arrays and tables are read."""
    asked = SYSTEMS[system]
    found = {"prompt": asked.prompt, **asked.good, **asked.quick}
    give_all(room, found)
    files = {name: room.work / value for name, value in found.items() if isinstance(value, Path)}
    found |= {name: np.load(path) for name, path in files.items() if path.suffix == ".npy"}
    return found | {name: path.read_text("utf-8") for name, path in files.items() if path.suffix == ".json"}


def _load(name: str, make: Callable[[], Any], room: Room) -> str | None:
    given: dict[str, Any] = {"folder": room.bundle("gluegen-text"), "backend": "cpu", "threads": 1} | {name: make()}

    def draw() -> Output:
        return load(**given)(**_good(room, "gluegen-text"))

    return guarded(room, [], lambda: _refused_or_finite(draw))


def _refused_or_finite(draw: Callable[[], Output]) -> str | None:
    try:
        output = draw()
        state = output.latents if output.tokens is None else output.tokens
        sounds = [sound.samples for sound in output.sounds]
        finite = all(np.isfinite(array).all() for array in (state, *sounds))
        return None if finite else "drew what is not finite"
    except InputError as error:
        return message_problem(f"x2i: error: {error}", raw=OF_OBJECTS)
    except Exception as error:
        return traceback_problem(error)
