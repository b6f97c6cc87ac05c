"""GPT-2's tokenizer from the folders it comes in: transformers' ids and texts."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer
from x2i.models.errors import CheckpointError
from x2i.models.token_transformers.gpt2_tokenizer import read_gpt2_tokenizer
from x2i.runtime.media.detokenizer import Detokenizer

from tests.goldens import golden
from tests.models.token_transformers.ddcap_goldens import CASES, FOLDER

WORDS = ["the old photo", " of a  snow-white dog's library, on the lake", "Ünïcode \u6f22 <|endoftext|> a", "\n\t#"]


def folder() -> Path:
    return golden(f"{FOLDER}/gpt2")


def saved(path: Path, text: str) -> Path:
    (path / "tokenizer.json").write_text(text, "utf-8")
    return path / "tokenizer.json"


def test_ids_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import GPT2Tokenizer

    vocab = json.loads((folder() / "vocab.json").read_text("utf-8"))
    lines = (folder() / "merges.txt").read_text("utf-8").splitlines()[1:]
    peer = GPT2Tokenizer(vocab=vocab, merges=[tuple(line.split(" ")) for line in lines if line])
    own = Tokenizer.from_str(read_gpt2_tokenizer(folder()).json)
    for words in WORDS:
        assert own.encode(words).ids == peer(words)["input_ids"]
        assert own.decode(own.encode(words).ids, skip_special_tokens=False) == words


def test_a_saved_tokenizer_is_the_same(tmp_path: Path) -> None:
    read = read_gpt2_tokenizer(folder())
    path = saved(tmp_path, read.json)
    assert read_gpt2_tokenizer(path) == read_gpt2_tokenizer(tmp_path) == read
    assert read.size == len(json.loads((folder() / "vocab.json").read_text("utf-8")))


@pytest.mark.parametrize("case", CASES)
def test_texts_of_the_runs(case: str, tmp_path: Path) -> None:
    """Special tokens are written; the mask behind a caption, which has no piece, is not."""
    read = Detokenizer(saved(tmp_path, read_gpt2_tokenizer(folder()).json), tidy=True)
    assert [read(ids) for ids in CASES[case]["final_tokens"]] == CASES[case]["text"]


def test_a_text_is_tidied_as_transformers_does(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerBase

    path = saved(tmp_path, read_gpt2_tokenizer(folder()).json)
    own = Tokenizer.from_file(str(path))
    tidied, plain = Detokenizer(path, tidy=True), Detokenizer(path)
    random = np.random.default_rng(4)
    bits = [" a", " .", " ,", " !", " ?", " ' ", " n't", " 's", " 'm", " 've", " 're", "dog", "  ", "'s", "."]
    for _ in range(50):
        words = "".join(random.choice(bits, 9))
        ids = own.encode(words).ids
        assert tidied(ids) == PreTrainedTokenizerBase.clean_up_tokenization(None, words)
        assert plain(ids) == words


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_gpt2_tokenizer(path)
    return str(caught.value)


def test_ids_with_a_gap_are_refused(tmp_path: Path) -> None:
    shutil.copy(folder() / "merges.txt", tmp_path)
    vocab = json.loads((folder() / "vocab.json").read_text("utf-8"))
    (tmp_path / "vocab.json").write_text(json.dumps(vocab | {"!": len(vocab) + 3}), "utf-8")
    assert f"expected ids without a gap from 0 on, got {len(vocab)} from 1 to {len(vocab) + 3}" in refused(tmp_path)


def test_files_of_two_tokenizers_are_refused(tmp_path: Path) -> None:
    shutil.copy(folder() / "vocab.json", tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\nzz yy\n", "utf-8")
    assert "expected every merge and <|endoftext|> in its vocabulary, got 3 absent (yy, zz, zzyy)" in refused(tmp_path)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    assert "expected tokenizer.json or vocab.json with merges.txt, got neither" in refused(tmp_path)


def test_another_kind_is_refused(tmp_path: Path) -> None:
    assert "expected byte pairs" in refused(saved(tmp_path, '{"model": {"type": "Unigram", "vocab": []}}'))
