"""Files of learned words, of whichever program, and what a tokenizer and an encoder make of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from x2i.models.clip.learned_words import LearnedWord, read_learned_word, with_learned_words
from x2i.models.errors import CheckpointError
from x2i.models.random.weights import random_stable_diffusion

VECTORS = torch.randn(3, 7, generator=torch.Generator().manual_seed(0))
PICKLED: dict[str, Any] = {
    "diffusers": {"<other>": VECTORS},
    "AUTOMATIC1111": {
        "string_to_token": {"*": 265},
        "string_to_param": {"*": torch.nn.Parameter(VECTORS)},
        "name": "other",
        "step": 500,
        "sd_checkpoint": None,
    },
    "AUTOMATIC1111's newer": {"emb_params": VECTORS, "clip_skip": torch.tensor(1)},
}


@pytest.mark.parametrize("suffix", [".pt", ".bin"])
@pytest.mark.parametrize("form", PICKLED)
def test_pickled_forms(tmp_path: Path, form: str, suffix: str) -> None:
    torch.save(PICKLED[form], tmp_path / f"word{suffix}")
    word = read_learned_word(tmp_path / f"word{suffix}", "cat-toy")
    assert torch.equal(word.vectors, VECTORS)
    assert word.tokens == ["cat-toy", "cat-toy_1", "cat-toy_2"]


@pytest.mark.parametrize("name", ["<other>", "emb_params"])
def test_safetensors(tmp_path: Path, name: str) -> None:
    save_file({name: VECTORS[0].half()}, tmp_path / "word.safetensors")
    word = read_learned_word(tmp_path / "word.safetensors", "cat-toy")
    assert torch.equal(word.vectors, VECTORS[:1].half().float()) and word.tokens == ["cat-toy"]


class Runs:
    def __reduce__(self) -> Any:
        return print, ("run",)


BAD = {
    "another format": ({"clip_l": VECTORS, "clip_g": VECTORS}, "got the keys clip_l, clip_g"),
    "several words": ({"string_to_param": {"*": VECTORS, "b": VECTORS}, "name": "x"}, "string_to_param with one"),
    "no vector": ({"x": "text"}, "got a value of type str"),
    "whole numbers": ({"x": torch.ones(3, 7, dtype=torch.int64)}, "int64"),
    "a picture": ({"x": torch.ones(1, 3, 7)}, "float vectors"),
    "no rows": ({"x": torch.ones(0, 7)}, "1 to 75 vectors"),
    "too many rows": ({"x": torch.ones(76, 7)}, "1 to 75 vectors"),
    "NaN": ({"x": torch.full((2, 7), torch.nan)}, "finite"),
    "code": ({"x": VECTORS, "y": Runs()}, "wants to run"),
    "a list": ([VECTORS], "named values"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_is_no_word(tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    content, said = BAD[kind]
    torch.save(content, tmp_path / "word.pt")
    with pytest.raises(CheckpointError, match=said) as refused:
        read_learned_word(tmp_path / "word.pt", "cat-toy")
    assert len(refused.value.problems) == 1 and "fix:" in str(refused.value) and not capsys.readouterr().out


def word(token: str, count: int = 1, width: int = 48) -> LearnedWord:
    return LearnedWord(token, torch.randn(count, width, generator=torch.Generator().manual_seed(count)), f"{token}.pt")


def test_rows_stand_behind_the_vocabulary() -> None:
    base = random_stable_diffusion("tiny")
    assert base.text_encoder is not None and base.tokenizer is not None
    table = base.text_encoder.get_input_embeddings().weight.clone()
    words = [word("cat-toy", 3, table.shape[1]), word("<dog>", 1, table.shape[1])]
    made = with_learned_words(base.text_encoder, base.tokenizer, words)
    tokenizer = Tokenizer.from_str(made.json)
    ids = tokenizer.encode("cat-toy cat-toy_1 cat-toy_2 <dog>", add_special_tokens=False).ids
    assert ids == list(range(len(table), len(table) + 4)) and made.size == len(table) + 4
    rows = base.text_encoder.get_input_embeddings().weight
    assert torch.equal(rows[: len(table)], table)
    assert torch.equal(rows[ids], torch.cat([each.vectors for each in words]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([("x", 1)], "got 'x'"),
        ([("X", 1)], "got 'X'"),
        ([("toy", 2), ("toy_1", 1)], "got 'toy_1'"),
        ([("toy_1", 1), ("toy", 1)], "got 'toy_1'"),
        ([("toy", 1), ("toy_2", 1)], "got 'toy_2'"),
        ([("toy", 1), ("Toy", 1)], "got 'Toy'"),
        ([("<|endoftext|>", 1)], "endoftext"),
    ],
)
def test_a_token_that_something_else_is_written_with(words: list[tuple[str, int]], said: str) -> None:
    base = random_stable_diffusion("tiny")
    assert base.text_encoder is not None and base.tokenizer is not None
    width = base.text_encoder.config.hidden_size
    with pytest.raises(CheckpointError, match="nothing else") as refused:
        with_learned_words(base.text_encoder, base.tokenizer, [word(token, count, width) for token, count in words])
    assert said in str(refused.value)


def test_every_word_of_another_width_is_told() -> None:
    base = random_stable_diffusion("tiny")
    assert base.text_encoder is not None and base.tokenizer is not None
    with pytest.raises(CheckpointError) as refused:
        with_learned_words(base.text_encoder, base.tokenizer, [word("one", 1, 5), word("two", 2, 9)])
    assert len(refused.value.problems) == 2 and "got 9" in str(refused.value)
