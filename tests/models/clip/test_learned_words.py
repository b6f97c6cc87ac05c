"""Files of learned words, of whichever program, and embeddings with rows for them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from x2i.models.clip.learned_words import LearnedWord, add_rows, open_embeddings, read_learned_word
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
    assert torch.equal(word.vectors, VECTORS) and word.token == "cat-toy"


@pytest.mark.parametrize("name", ["<other>", "emb_params"])
def test_safetensors(tmp_path: Path, name: str) -> None:
    save_file({name: VECTORS[0].half()}, tmp_path / "word.safetensors")
    word = read_learned_word(tmp_path / "word.safetensors", "cat-toy")
    assert torch.equal(word.vectors, VECTORS[:1].half().float())


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


def word(token: str, count: int, width: int) -> LearnedWord:
    return LearnedWord(token, torch.randn(count, width, generator=torch.Generator().manual_seed(count)), f"{token}.pt")


@pytest.mark.parametrize("spare", [0, 2, 9])
def test_rows_stand_behind_the_vocabulary(spare: int) -> None:
    """Also where the table has rows to spare, into which the first ids then fall."""
    encoder = random_stable_diffusion("tiny").text_encoder
    assert encoder is not None
    table = encoder.get_input_embeddings().weight.clone()
    ids = list(range(len(table) - spare, len(table) - spare + 4))
    words = [word("cat-toy", 3, table.shape[1]), word("<dog>", 1, table.shape[1])]
    add_rows(encoder, ids, words)
    rows = encoder.get_input_embeddings().weight
    assert torch.equal(rows[: ids[0]], table[: ids[0]]) and len(rows) == max(len(table), ids[-1] + 1)
    assert torch.equal(rows[ids], torch.cat([each.vectors for each in words]))
    assert encoder.config.vocab_size == len(rows)


def test_every_word_of_another_width_is_told() -> None:
    encoder = random_stable_diffusion("tiny").text_encoder
    assert encoder is not None
    with pytest.raises(CheckpointError) as refused:
        add_rows(encoder, [600, 601, 602], [word("one", 1, 5), word("two", 2, 9)])
    assert len(refused.value.problems) == 2 and "got 9" in str(refused.value)


def test_open_embeddings_read_the_rows_of_a_call() -> None:
    encoder = random_stable_diffusion("tiny").text_encoder
    assert encoder is not None
    plain = encoder.get_input_embeddings().weight
    opened = open_embeddings(encoder)
    assert opened.weight is plain and open_embeddings(encoder) is opened
    size, width = plain.shape
    learned = torch.randn(2, 3, width, generator=torch.Generator().manual_seed(4))
    ids = torch.tensor([[0, size, size - 1, size + 2], [size + 1, 5, size, size + 1]])
    opened.take(learned)
    table = [torch.cat([plain, rows]) for rows in learned]
    assert torch.equal(opened(ids), torch.stack([rows[row] for rows, row in zip(table, ids, strict=True)]))
    opened.take(None)
    assert torch.equal(opened(ids[:, :1] * 0), plain[ids[:, :1] * 0])
