"""Blocks of rows: each is worked on once, by as many threads as a run has, and walks do not depend on their number."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from x2i.runtime import load
from x2i.runtime.token_samplers import row_blocks
from x2i.runtime.token_samplers.masked_decoding import drawn_tokens
from x2i.runtime.token_samplers.noise import TokenNoise
from x2i.runtime.token_samplers.row_blocks import for_each_block, on_cores

from tests.bundles import tiny

SHAPES = ((3, 5), (), (7,), (4, 3, 2), (41,))
"""Of the draws of a stream, most of them odd."""


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_blocks, "BLOCK_VALUES", 8)


@pytest.mark.parametrize("cores", [1, 2, 5])
@pytest.mark.parametrize("shape", [(0, 3), (1, 9), (7, 3), (50, 1)])
def test_every_row_is_worked_on_once(cores: int, shape: tuple[int, int]) -> None:
    times = np.zeros(shape[0], int)

    def work(block: slice) -> None:
        times[block] += 1

    with on_cores(cores):
        for_each_block(*shape, work)
    assert (times == 1).all()


@pytest.mark.parametrize("cores", [1, 3])
def test_what_goes_wrong_in_a_block_reaches_the_caller(cores: int) -> None:
    def work(block: slice) -> None:
        if block.start == 16:
            raise MemoryError("too little")

    with on_cores(cores), pytest.raises(MemoryError, match="too little"):
        for_each_block(40, 1, work)


@pytest.mark.parametrize("cores", [1, 3])
def test_draws_are_those_of_one_generator_for_each_picture(cores: int) -> None:
    noise, key = TokenNoise(7, 2), int.from_bytes(b"draw", "big")
    peers = [np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, key]))) for seed in (7, 8)]
    for shape in SHAPES:
        with on_cores(cores):
            drawn = noise.uniform("draw", shape)
        np.testing.assert_array_equal(drawn, [peer.random(shape, np.float32) for peer in peers])


@pytest.mark.parametrize("cores", [1, 3])
def test_tokens_are_drawn_by_the_race_of_their_own_place(cores: int) -> None:
    random = np.random.default_rng(2)
    tokens = np.where(random.random((3, 11)) < 0.6, 9, random.integers(0, 9, (3, 11)))
    logits, race = random.normal(0, 2, (3, 11, 9)).astype(np.float32), random.exponential(size=(3, 11, 9))
    given = logits.copy()
    with on_cores(cores):
        drawn, sureness = drawn_tokens(tokens, logits, race.astype(np.float32), 9)
    np.testing.assert_array_equal(given, logits)
    for place in np.ndindex(tokens.shape):
        if tokens[place] == 9:
            weights = np.exp(logits[place] - logits[place].max())
            weights /= weights.sum()
            assert drawn[place] == (weights / race[place].astype(np.float32)).argmax()
            assert sureness[place] == weights[drawn[place]]
        else:
            assert drawn[place] == tokens[place] and sureness[place] == np.finfo(np.float32).max


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_has_as_many_threads_as_were_asked_for(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def pool(count: int) -> ThreadPoolExecutor:
        asked.append(count)
        return ThreadPoolExecutor(count)

    monkeypatch.setattr(row_blocks, "ThreadPoolExecutor", pool)
    load(tiny("muse"), "cpu", threads)("red", steps=1)
    assert set(asked) == ({threads} if threads > 1 else set())
