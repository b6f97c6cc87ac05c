"""Tokens of learned words: as diffusers numbers them, and never one that something else is written with."""

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Library
from x2i.models.random.byte_tokenizer import byte_clip_json
from x2i.runtime.errors import InputError
from x2i.runtime.media.added_tokens import add_words, word_problems
from x2i.runtime.media.tokenizer import Tokenizer


def test_ids_follow_the_vocabulary() -> None:
    tokenizer = Library.from_str(byte_clip_json(514))
    assert add_words(tokenizer, {"cat-toy": 3, "<dog>": 1}) == [514, 515, 516, 517]
    assert tokenizer.encode("Cat-Toy cat-toy_2 <dog>", add_special_tokens=False).ids == [514, 516, 517]


@pytest.mark.parametrize(
    ("words", "got"),
    [
        ({"x": 1}, "x"),
        ({"X": 1}, "X"),
        ({"toy": 2, "toy_1": 1}, "toy_1"),
        ({"toy_1": 1, "toy": 1}, "toy_1"),
        ({"toy": 1, "toy_2": 1}, "toy_2"),
        ({"toy": 1, "Toy": 1}, "Toy"),
        ({"<|endoftext|>": 1}, "<|endoftext|>"),
    ],
)
def test_a_token_that_something_else_is_written_with(words: dict[str, int], got: str) -> None:
    (line, *_) = word_problems(Library.from_str(byte_clip_json(514)), words)
    assert f"got {got!r}" in line and "choose another name" in line


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    (tmp_path / "tokenizer.json").write_text(byte_clip_json(514), "utf-8")
    return Tokenizer(tmp_path / "tokenizer.json", 12, 513)


def test_a_call_s_tokenizer_has_rows_of_its_own(tokenizer: Tokenizer) -> None:
    """The table may have more rows than the tokenizer has tokens."""
    own = tokenizer.with_words({"toy": 2, "<dog>": 1}, 600)
    assert own(["a toy <dog>"]).input_ids[0, :6].tolist() == [512, tokenizer.pieces("a")[0], 600, 601, 602, 513]
    assert own.pieces("toy") == [600, 601] and own.expanded("toy") == "toy toy_1"
    assert own.encoded("<dog>") == ("<dog>", [602], [(0, 5)])
    assert "toy" not in tokenizer.added and len(tokenizer.pieces("toy")) == 3
    assert tokenizer.with_words({"toy": 2, "<dog>": 1}, 600) is own
    assert tokenizer.with_words({"toy": 1}, 600).pieces("toy") == [600]


def test_every_word_at_fault_is_told(tokenizer: Tokenizer) -> None:
    with pytest.raises(InputError) as refused:
        tokenizer.with_words({"x": 1, "toy": 2, "y": 1}, 514)
    assert len(refused.value.problems) == 2
