"""Walks from a seed on a stand-in for a network: batches, states that are sent in, and what a step tells."""

from typing import Any

import numpy as np
import pytest
from x2i.runtime.token_samplers.log_probabilities import log_softmax
from x2i.runtime.token_samplers.mask_replace import MaskReplace
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.reveal_priors import REVEAL_LENGTH, RevealPrior, reveal_calls
from x2i.runtime.token_samplers.sampler import TokenRun

from tests.runtime.token_samplers.mask_goldens import options

CLASSES = 11
SEED = 7


class ToyNetwork:
    """Log-probabilities of each token that depend on its neighbours and the timestep; keeps what it was asked."""

    def __init__(self, length: int):
        random = np.random.default_rng(5)
        self.table = random.standard_normal((CLASSES + 1, CLASSES)).astype(np.float32) * 2
        self.places = random.standard_normal((length, CLASSES)).astype(np.float32)
        self.asked: list[np.ndarray] = []

    def __call__(self, tokens: np.ndarray, timestep: np.ndarray | int) -> dict[str, np.ndarray]:
        self.asked.append(tokens)
        around = self.table[tokens] + self.table[np.roll(tokens, 1, axis=-1)] + self.places
        return {"logits": log_softmax(around + np.float32(np.sin(timestep)))}


def run_of(count: int, length: int, seed: int = SEED, start: np.ndarray | None = None, **given: Any) -> TokenRun:
    slots = {} if start is None else {"start_tokens": start}
    return TokenRun(ToyNetwork(length), TokenNoise(seed, count), count, (1, length), options(**given), slots)


def walked(sampler: MaskReplace, run: TokenRun) -> np.ndarray:
    return np.stack([step.tokens for step in sampler.walk(run)])


WALKS = {
    "plain": (9, {}),
    "truncated": (9, {"truncation": 0.8}),
    "fast": (9, {"fast": 4, "truncation": 0.8}),
    "from tokens": (9, {"strength": 0.55, "start": True}),
    "uniform": (REVEAL_LENGTH, {"reveals": 300}),
    "purity": (REVEAL_LENGTH, {"prior": "purity", "prior_weight": 0.7, "truncation": 0.9}),
}


@pytest.mark.parametrize("name", WALKS)
def test_a_picture_is_the_same_alone_and_in_a_batch(name: str) -> None:
    length, given = WALKS[name]
    sampler = MaskReplace(classes=CLASSES, steps=10, priors=length == REVEAL_LENGTH)
    given = given | ({"start": np.arange(length)[None] % CLASSES} if given.get("start") else {})
    together = walked(sampler, run_of(3, length, **given))
    for row in range(3):
        np.testing.assert_array_equal(
            together[:, row : row + 1], walked(sampler, run_of(1, length, SEED + row, **given))
        )
    assert not np.array_equal(together[:, 0], together[:, 1])
    assert (together[-1] < CLASSES).all(), "no mask is left at the end"


@pytest.mark.parametrize("name", WALKS)
def test_a_state_that_is_sent_in_takes_the_place_of_the_walks_own(name: str) -> None:
    length, given = WALKS[name]
    sampler = MaskReplace(classes=CLASSES, steps=10, priors=length == REVEAL_LENGTH)
    given = given | ({"start": np.arange(length)[None] % CLASSES} if given.get("start") else {})
    run = run_of(2, length, **given)
    walk, sent = sampler.walk(run), np.arange(2 * length).reshape(2, -1) % (CLASSES + 1)
    own = next(walk).tokens
    own.setflags(write=False)
    kept = sent.copy()
    walk.send(sent)
    np.testing.assert_array_equal(run.predict.asked[1], kept)  # type: ignore[attr-defined]
    np.testing.assert_array_equal(sent, kept)
    for _ in walk:
        pass


def test_reveals_of_a_sent_state_touch_masks_alone() -> None:
    """Also where it has fewer masks than are to be revealed, for which the original would look without end."""
    random = np.random.default_rng(2)
    tokens = random.integers(0, CLASSES, (2, 50))
    tokens[0, :3], tokens[1, 7:30] = CLASSES, CLASSES
    log_x0 = log_softmax(random.standard_normal((2, 50, CLASSES)).astype(np.float32))
    uniform, places = random.random((2, 50, CLASSES + 1), np.float32), random.standard_exponential((2, 50), np.float32)
    for rule in ("uniform", "purity"):
        made = RevealPrior(rule, 0.5).reveal(log_x0, tokens, 20, uniform, places)
        assert ((made != tokens).sum(axis=-1) == [3, 20]).all()
        assert (tokens[made != tokens] == CLASSES).all()


def test_each_call_reveals_its_number() -> None:
    sampler = MaskReplace(classes=CLASSES, steps=10, priors=True)
    states = walked(sampler, run_of(2, REVEAL_LENGTH, prior="purity", reveals=60))
    masks = (states == CLASSES).sum(axis=-1)
    before = np.concatenate([np.full_like(masks[:1], REVEAL_LENGTH), masks[:-1]])
    expected = [number for _, number in reveal_calls(10, 60)]
    np.testing.assert_array_equal((before - masks)[:-1], np.repeat(np.array(expected[:-1])[:, None], 2, axis=1))


def test_purity_reveals_the_surest_places_first() -> None:
    """Of scores that differ by far, the larger half is nearly always first; evenly, it is half of the time."""
    log_x0 = np.full((1, 200, 3), np.log(1 / 3), np.float32)
    log_x0[:, :100] = log_softmax(np.array([20, 0, 0], np.float32))
    tokens, random = np.full((1, 200), 3), np.random.default_rng(0)
    shares = {}
    for rule in ("uniform", "purity"):
        places, uniform = random.standard_exponential((1, 200), np.float32), random.random((1, 200, 4), np.float32)
        made = RevealPrior(rule).reveal(log_x0, tokens, 40, uniform, places)
        shares[rule] = (made[:, :100] != 3).sum() / 40
    assert shares["purity"] > 0.65 and 0.3 < shares["uniform"] < 0.7


def test_a_step_tells_what_the_network_expects() -> None:
    sampler, run = MaskReplace(classes=CLASSES, steps=5, truncation=0.9), run_of(2, 9)
    expected = []
    for step in sampler.walk(run):
        network = ToyNetwork(9)
        expected.append(network(run.predict.asked[-1], int(step.timestep))["logits"].argmax(axis=-1))  # type: ignore[attr-defined]
        np.testing.assert_array_equal(step.likely(), expected[-1])
    assert [row.shape for row in expected] == [(2, 9)] * 5


def test_the_records_truncation_is_a_runs_unless_it_says_otherwise() -> None:
    bare, cut = MaskReplace(classes=CLASSES, steps=6), MaskReplace(classes=CLASSES, steps=6, truncation=0.3)
    everything, some = walked(bare, run_of(2, 9)), walked(cut, run_of(2, 9))
    assert not np.array_equal(everything, some)
    np.testing.assert_array_equal(some, walked(bare, run_of(2, 9, truncation=0.3)))
    np.testing.assert_array_equal(everything, walked(cut, run_of(2, 9, untruncated=True)))
    assert not np.array_equal(some, walked(cut, run_of(2, 9, truncation=0.9)))


def test_steps_choose_a_stride() -> None:
    sampler = MaskReplace(classes=CLASSES, steps=10)
    np.testing.assert_array_equal(walked(sampler, run_of(2, 9, steps=4)), walked(sampler, run_of(2, 9, fast=3)))
