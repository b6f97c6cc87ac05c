"""Weights of words: a second implementation of AUTOMATIC1111's published rule, and its own documented examples."""

import re

import numpy as np
import pytest
from x2i.runtime.errors import InputError
from x2i.runtime.media.prompts.weights import weighted_fragments
from x2i.runtime.media.prompts.windows import weighted_states

from tests.numerics import assert_close

DOCUMENTED = {
    "normal text": [("normal text", 1.0)],
    "an (important) word": [("an ", 1.0), ("important", 1.1), (" word", 1.0)],
    "(unbalanced": [("unbalanced", 1.1)],
    r"\(literal\]": [("(literal]", 1.0)],
    "(unnecessary)(parens)": [("unnecessaryparens", 1.1)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0),
        ("house", 1.573),
        (" ", 1.1),
        ("on", 1.0),
        (" a ", 1.1),
        ("hill", 0.55),
        (", sun, ", 1.1),
        ("sky", 1.4641),
        (".", 1.1),
    ],
    "": [("", 1.0)],
}


@pytest.mark.parametrize("prompt", DOCUMENTED)
def test_its_documented_examples(prompt: str) -> None:
    found = weighted_fragments(prompt)
    assert [fragment.text for fragment in found] == [text for text, _ in DOCUMENTED[prompt]]
    assert np.allclose([fragment.weight for fragment in found], [weight for _, weight in DOCUMENTED[prompt]])


def letters(prompt: str) -> list[tuple[str, float]]:
    """Letter by letter: what stands around a letter, innermost first, says its weight."""
    escaped = re.sub(r"\\([\\()\[\]])", lambda found: chr(0xE000 + "\\()[]".index(found[1])), prompt)
    factors = [1.0] * len(escaped)
    drawn = [True] * len(escaped)
    for opening, closing, usual in (("(", ")", 1.1), ("[", "]", 1 / 1.1)):
        starts: list[int] = []
        for place, sign in enumerate(escaped):
            if sign == opening:
                starts.append(place)
                drawn[place] = False
            elif sign == closing and starts:
                number = re.search(r":\s*([+-]?[0-9]*\.?[0-9]+)\s*$", escaped[:place]) if opening == "(" else None
                first, end = starts.pop(), place if number is None else number.start()
                for each in range(first, place):
                    factors[each] *= usual if number is None else float(number[1])
                for each in range(end, place + 1):
                    drawn[each] = False
        for first in starts:
            for each in range(first, len(escaped)):
                factors[each] *= usual
    found = zip(escaped, factors, drawn, strict=True)
    back = {chr(0xE000 + number): sign for number, sign in enumerate("\\()[]")}
    return [(back.get(letter, letter), factor) for letter, factor, kept in found if kept]


@pytest.mark.parametrize(
    "prompt",
    [
        "a (red) [apple] on a ((table))",
        "(a (b:1.3) [c] d:0.7) e",
        r"\(not\) (but \(this\):1.2) \\ (x)",
        "[[less]] and (more (most:2) more",
        "ends) here] (a: b) c:1.2 (d:.5) (e:-1)",
        "(a:1.1)(b:1.1)",
        "(nothing:)",
    ],
)
def test_each_letter_has_the_weight_of_what_stands_around_it(prompt: str) -> None:
    expected = letters(prompt)
    found = [(letter, fragment.weight) for fragment in weighted_fragments(prompt) for letter in fragment.text]
    assert [letter for letter, _ in found] == [letter for letter, _ in expected]
    assert np.allclose([weight for _, weight in found], [weight for _, weight in expected])


@pytest.mark.parametrize("prompt", ["(cat:1000)", "(((((cat:9):9):9):9):9)", f"({'9' * 400}:{'9' * 400})"])
def test_a_weight_that_is_none(prompt: str) -> None:
    with pytest.raises(InputError, match="weights: expected weights from -100 to 100"):
        weighted_fragments(prompt)


@pytest.mark.parametrize("sign", ["(", "[", "\\", "(a:1.", ")", ":", "()", "(a:9", "9 : "])
def test_it_is_quick(sign: str) -> None:
    try:
        weighted_fragments(sign * 20_000)
    except InputError as refused:
        assert "64 brackets" in str(refused)


def test_states_keep_the_mean_of_each_row() -> None:
    random = np.random.default_rng(0)
    states = random.standard_normal((3, 7, 5)).astype(np.float32) + np.float32(0.3)
    weights = np.ones((3, 7), np.float32)
    weights[0, 2:4], weights[2, 5] = 1.3, 0.5
    found = weighted_states(states, weights)
    assert np.array_equal(found[1], states[1])
    for row in (0, 2):
        expected = states[row].astype(np.float64) * weights[row][:, None]
        expected *= states[row].mean(dtype=np.float64) / expected.mean()
        assert_close(found[row], expected.astype(np.float32), "folded")
    assert weighted_states(states, np.ones((3, 7), np.float32)) is states
    assert np.isfinite(weighted_states(states, np.zeros((3, 7), np.float32))).all()
