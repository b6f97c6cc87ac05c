"""CLIP's tokenizer from its published files, against the one transformers builds from them."""

import json

import pytest
from tokenizers import Tokenizer
from transformers import CLIPTokenizerFast
from x2i.models.clip.tokenizer import clip_pad_token, clip_tokenizer_json
from x2i.models.errors import CheckpointError
from x2i.models.random.byte_tokenizer import byte_clip_json, byte_xlmr_json

TEXTS = [
    "",
    "A photo of an astronaut riding a horse",
    "  two   spaces,\ttabs\nand lines ",
    "don't they're it'll 42 3.14 #hash ++",
    "ünïcödé É 下午的花园 😀 ﬁ Ⅳ",
    "<|endoftext|> inside <|startoftext|>",
    "x" * 300,
]
MERGES = [("t", "h"), ("th", "e</w>"), ("a", "n"), ("an", "d</w>"), ("h", "o"), ("1", "4</w>"), ("Ã", "¼")]


@pytest.fixture
def folder(tmp_path):
    vocab = {
        piece: number for piece, number in json.loads(byte_clip_json(514))["model"]["vocab"].items() if number < 512
    }
    for left, right in MERGES:
        vocab[left + right] = len(vocab)
    vocab |= {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (tmp_path / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("text", TEXTS)
def test_equal_to_transformers(folder, text):
    peer = CLIPTokenizerFast.from_pretrained(folder)
    assert Tokenizer.from_str(clip_tokenizer_json(folder)).encode(text).ids == peer(text)["input_ids"]


def test_saved_by_transformers(folder, tmp_path):
    CLIPTokenizerFast.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    for place in (tmp_path / "saved", tmp_path / "saved" / "tokenizer.json"):
        tokenizer = Tokenizer.from_str(clip_tokenizer_json(place))
        assert tokenizer.encode(TEXTS[1]).ids == Tokenizer.from_str(clip_tokenizer_json(folder)).encode(TEXTS[1]).ids
    assert clip_pad_token(tmp_path / "saved") == "<|endoftext|>"


def test_files_of_two_tokenizers(folder):
    with (folder / "merges.txt").open("a", encoding="utf-8") as file:
        file.write("q u\n")
    with pytest.raises(CheckpointError, match=r"got 1 absent \(qu\)"):
        clip_tokenizer_json(folder)
    (folder / "merges.txt").write_text("only-one\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"expected two pieces a line, got 'only-one'"):
        clip_tokenizer_json(folder)
    (folder / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match=r"got neither"):
        clip_tokenizer_json(folder)


@pytest.mark.parametrize("text", TEXTS)
def test_byte_tokenizers_know_every_text(text):
    clip, xlmr = Tokenizer.from_str(byte_clip_json(600)), Tokenizer.from_str(byte_xlmr_json(300))
    ids = clip.encode(text).ids
    assert ids[0] == 598 and ids[-1] == 599 and max(ids) < 600
    ids = xlmr.encode(text).ids
    assert ids[0] == 0 and ids[-1] == 2 and 3 not in ids and max(ids) < 260
    assert len(ids) == 2 + len(text.encode())
