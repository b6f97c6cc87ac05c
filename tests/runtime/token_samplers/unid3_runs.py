"""UniD3's recorded runs as our samplers read them: classes last, draws of 16 bits, and walks over what was said."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from x2i.runtime.token_samplers.joint.process import PAIR_RATES
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.sampler import Predict, TokenRun, TokenSampler

from tests.goldens import golden, golden_arrays

Arrays = dict[str, np.ndarray]


def recorded_runs(folder: str) -> dict[str, Arrays]:
    """Every `run_*.npz` of a folder of goldens, by its name without the ending."""
    paths = sorted(golden(folder).glob("run_*.npz"))
    assert paths, folder
    return {path.stem: golden_arrays(f"{folder}/{path.name}") for path in paths}


def classes_last(values: np.ndarray) -> np.ndarray:
    """[..., classes, length] as [..., length, classes]."""
    return values.swapaxes(-1, -2)


def uniforms(recorded: np.ndarray) -> np.ndarray:
    """The draws from 0 to 1, float32 [..., length, classes], that a run kept as uint16 [..., classes, length]."""
    return (classes_last(recorded).astype(np.float32) + np.float32(0.5)) / np.float32(65536)


def token_run(
    predict: Predict,
    noise: Arrays,
    count: int,
    length: int,
    values: Mapping[str, Any] | None = None,
    slots: Arrays | None = None,
) -> TokenRun:
    """One run of recorded noise, {name: [draws, count, ...]}."""
    return TokenRun(predict, TokenNoise(0, count, noise), count, (1, length), values or {}, slots or {})


def as_read(predict: Predict, read: list[np.ndarray]) -> Predict:
    """The same network, which keeps the tokens that it is asked about."""

    def kept(tokens: np.ndarray, timestep: np.ndarray | int) -> Arrays:
        read.append(tokens)
        return predict(tokens, timestep)

    return kept


def states(sampler: TokenSampler, run: TokenRun) -> Iterator[np.ndarray]:
    """The tokens after each step."""
    return (step.tokens for step in sampler.walk(run))


def in_order(said: np.ndarray, make: Callable[[np.ndarray], Arrays]) -> Predict:
    """A network that says, call by call, what was recorded."""
    calls = iter(said)
    return lambda tokens, timestep: make(next(calls))


@dataclass(frozen=True)
class JointRun:
    """One recorded run of UniD3's: its arrays, and its settings in `cases.json`."""

    name: str
    arrays: Arrays
    case: dict[str, Any]

    @property
    def network(self) -> str:
        """The authors' name of it: txt draws pictures from captions, pair all else."""
        return self.case["graph"]

    @property
    def pair_loop(self) -> str | None:
        """The option `loop`; None where not a pair is drawn from nothing."""
        if self.network != "pair" or {"image_tokens", "known_image"} & self.arrays.keys():
            return None
        named = {"re-noise": "renoise", "fast B": "chain", "fast A": "posterior"}
        by_rate = {PAIR_RATES[loop]: loop for loop in ("posterior", "chain")}
        return (
            next((loop for words, loop in named.items() if words in self.case["loop"]), None)
            or by_rate[self.case["truncation"]]
        )

    @property
    def values(self) -> dict[str, Any]:
        """A run's options."""
        stride = self.case.get("delta", self.case.get("stride"))
        return {"fast": stride, "truncation": None, "untruncated": False, "loop": self.pair_loop, "steps": None}

    @property
    def counted(self) -> list[int]:
        """The numbers of those draws, one a network call, from which anything can come."""
        calls, draws = len(self.arrays["network_t"]), len(self.arrays["noise_u16"])
        each = 2 if "two draws" in self.case["loop"] else 1
        return list(range(draws - calls * each, draws, each))

    def noise(self, image_length: int) -> Arrays:
        """Those draws, by our names."""
        drawn = uniforms(self.arrays["noise_u16"][self.counted])
        parts = {"image": drawn[:, :, :image_length], "text": drawn[:, :, image_length:]}
        return {name: draws for name, draws in parts.items() if draws.shape[2]}

    def slots(self, text_classes: int) -> Arrays:
        """What the run was given."""
        arrays, made = self.arrays, {"draws_text": np.array([self.network != "txt"])}
        if "text_ids" in arrays:
            made["input_ids"] = arrays["text_ids"]
        if "image_tokens" in arrays:
            made["start_tokens"] = arrays["image_tokens"]
        if "known_image" in arrays:
            known = arrays["known_image"].astype(bool)
            made |= {"known": known, "start_tokens": np.where(known, arrays["given_image_tokens"], 0)}
            made["input_ids"] = np.where(arrays["known_text"].astype(bool), arrays["given_text_ids"], text_classes)
        return made

    def last_state(self, text_offset: int) -> np.ndarray:
        """The tokens that it ends with, of a whole state where captions are drawn."""
        image, text = self.arrays["final_image_tokens"], self.arrays.get("final_text_ids")
        return image if text is None else np.concatenate([image, text + text_offset], axis=1)


def joint_runs() -> list[JointRun]:
    cases = json.loads((golden("unid3") / "cases.json").read_text(encoding="utf-8"))
    return [JointRun(name, arrays, cases[name]) for name, arrays in recorded_runs("unid3").items()]
