"""CLIP's tokenizer from its published files, against the one transformers builds from them."""

import json
import random
import shutil

import pytest
from tokenizers import Tokenizer
from transformers import CLIPTokenizer
from x2i.models.clip.published_tokenizer import read_clip_tokenizer
from x2i.models.errors import CheckpointError
from x2i.models.random.byte_tokenizer import byte_clip_json, byte_xlmr_json

TEXTS = [
    "",
    "A photo of an astronaut riding a horse",
    "  two   spaces,\ttabs\nand lines ",
    "don't they're it'll 42 3.14 #hash ++",
    "ünïcödé É 下午的花园 😀 ﬁ Ⅳ",
    "<|endoftext|> inside <|startoftext|>",
    "a <cat-toy> <cat-toy>_1<x>, <X> [PAD] [pad] Hello! hello 0 and14 Foo",
    "x" * 300,
]
MERGES = [("t", "h"), ("th", "e</w>"), ("a", "n"), ("an", "d</w>"), ("h", "o"), ("1", "4</w>"), ("Ã", "¼")]
SETTINGS = {
    "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>",
    "unk_token": "<|endoftext|>",
    "pad_token": "<|endoftext|>",
    "model_max_length": 77,
}
WORDS = ["!", "0", "<cat-toy>", "<cat-toy>_1", "[PAD]", "<x>", "a", "hello", "<|endoftext|>", "Foo", "an", "and</w>"]


@pytest.fixture
def folder(tmp_path):
    vocab = {
        piece: number for piece, number in json.loads(byte_clip_json(514))["model"]["vocab"].items() if number < 512
    }
    for left, right in MERGES:
        vocab[left + right] = len(vocab)
    vocab |= {"<|startoftext|>": len(vocab), "<|endoftext|>": len(vocab) + 1}
    (tmp_path / "clip").mkdir()
    write(tmp_path / "clip" / "vocab.json", vocab)
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (tmp_path / "clip" / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "clip"


def write(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")


def assert_same(folder):
    """What transformers makes of the same folder: ids, added tokens, padding, window."""
    peer, ours = CLIPTokenizer.from_pretrained(folder, local_files_only=True), read_clip_tokenizer(folder)
    tokenizer = Tokenizer.from_str(ours.json)
    for text in TEXTS:
        assert tokenizer.encode(text).ids == peer(text)["input_ids"], text
    added = [
        {number: token.content for number, token in each.items()}
        for each in (tokenizer.get_added_tokens_decoder(), peer.added_tokens_decoder)
    ]
    assert added[0] == added[1]
    assert (ours.pad_token, ours.pad_id, ours.size) == (peer.pad_token, peer.pad_token_id, len(peer))
    assert ours.window == (None if peer.model_max_length > 10**20 else peer.model_max_length)
    assert tokenizer.padding is None and tokenizer.truncation is None


def typed(content, random):
    flags = {name: random.random() < 0.4 for name in ("lstrip", "rstrip", "normalized", "single_word")}
    return {"content": content, **flags}


def publish(folder, seed):
    """Settings of every kind that transformers reads, drawn by chance."""
    draw = random.Random(seed)
    settings = dict(SETTINGS)
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        fate, content = draw.random(), draw.choice(WORDS) if key == "pad_token" else SETTINGS[key]
        if fate < 0.25:
            del settings[key]
        elif fate < 0.6:
            settings[key] = {"__type": "AddedToken", **typed(content, draw)} if fate < 0.4 else content
    for key in ("extra_special_tokens", "additional_special_tokens"):
        if draw.random() < 0.2:
            settings[key] = draw.sample(WORDS, 2)
    for key in ("image_token", "mask_token"):
        if draw.random() < 0.3:
            settings[key] = draw.choice(WORDS)
    if draw.random() < 0.4:
        numbers = draw.sample([519, 520, 521, 522, 600, 0, 15], 3)
        settings["added_tokens_decoder"] = {
            str(number): {**typed(draw.choice(WORDS), draw), "special": draw.random() < 0.5} for number in numbers
        }
    if draw.random() < 0.4:
        stated = {key: SETTINGS[key] for key in ("bos_token", "eos_token")} | {"pad_token": draw.choice(WORDS)}
        stated = {key: word if draw.random() < 0.5 else typed(word, draw) for key, word in stated.items()}
        write(folder / "special_tokens_map.json", stated | {"additional_special_tokens": draw.sample(WORDS, 2)})
    if draw.random() < 0.4:
        write(folder / "added_tokens.json", {word: 521 + i for i, word in enumerate(draw.sample(WORDS, 3))})
    settings["model_max_length"] = draw.choice([77, 20, 10**30, None])
    write(folder / "tokenizer_config.json", settings)


@pytest.mark.parametrize("seed", range(24))
def test_equal_to_transformers(folder, tmp_path, seed):
    if seed:
        publish(folder, seed)
    assert_same(folder)
    CLIPTokenizer.from_pretrained(folder, local_files_only=True).save_pretrained(tmp_path / "saved")
    assert_same(tmp_path / "saved")
    # The same where only tokenizer.json lists the added tokens, as older versions of transformers save them.
    settings = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text("utf-8"))
    write(tmp_path / "saved" / "tokenizer_config.json", {k: v for k, v in settings.items() if "decoder" not in k})
    assert_same(tmp_path / "saved")


def test_a_tokenizer_json_by_its_own_path(folder, tmp_path):
    write(folder / "tokenizer_config.json", SETTINGS | {"pad_token": "!"})
    CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "saved")
    assert read_clip_tokenizer(tmp_path / "saved" / "tokenizer.json") == read_clip_tokenizer(tmp_path / "saved")
    shutil.copy(tmp_path / "saved" / "tokenizer.json", tmp_path)
    alone = read_clip_tokenizer(tmp_path)
    assert alone.pad_token == "<|endoftext|>" and alone.window is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pad_token": 0}, "expected pad_token to be a token, got 0"),
        ({"pad_token": None}, "expected pad_token to be a token, got None"),
        ({"bos_token": None}, "expected bos_token to be a token, got None"),
        ({"padding_side": "left"}, "expected padding_side 'right'.* got 'left'"),
        ({"truncation_side": "left"}, "expected truncation_side 'right'.* got 'left'"),
        ({"split_special_tokens": True}, "expected split_special_tokens False.* got True"),
        ({"model_max_length": "77"}, "expected model_max_length as a whole number of 2 or more, got '77'"),
        ({"model_max_length": 1}, "expected model_max_length as a whole number of 2 or more, got 1"),
        ({"unk_token": "[UNK]", "added_tokens_decoder": {"7": 3}}, "expected a token, got 3"),
        ({"added_tokens_decoder": {"x": {"content": "y"}}}, "expected a token's id, got 'x'"),
        ({"added_tokens_decoder": {"7": {"content": "y", "lstrip": 3}}}, "expected true or false in 'y'"),
    ],
)
def test_settings_that_cannot_be_drawn_with(folder, settings, message):
    write(folder / "tokenizer_config.json", SETTINGS | settings)
    with pytest.raises(CheckpointError, match=message):
        read_clip_tokenizer(folder)


def test_all_settings_are_told_at_once(folder):
    write(folder / "tokenizer_config.json", SETTINGS | {"padding_side": "left", "pad_token": 1, "model_max_length": 0})
    with pytest.raises(CheckpointError) as caught:
        read_clip_tokenizer(folder)
    assert len(caught.value.problems) == 3


def test_files_of_two_tokenizers(folder):
    with (folder / "merges.txt").open("a", encoding="utf-8") as file:
        file.write("q u\n")
    with pytest.raises(CheckpointError, match=r"got 1 absent \(qu\)"):
        read_clip_tokenizer(folder)
    (folder / "merges.txt").write_text("only-one\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"expected two pieces a line, got 'only-one'"):
        read_clip_tokenizer(folder)
    (folder / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match=r"got neither"):
        read_clip_tokenizer(folder)


@pytest.mark.parametrize("vocab", [{"a": "1"}, {"a": -1}, {"a": 2**24}, {"a": 2**40}, {"\ud800": 1}, {"a": True}])
def test_a_vocabulary_that_is_none(folder, vocab):
    write(folder / "vocab.json", vocab)
    with pytest.raises(CheckpointError, match="expected pieces of text with their ids"):
        read_clip_tokenizer(folder)


def test_another_kind_of_tokenizer(tmp_path):
    write(tmp_path / "tokenizer.json", {"model": {"type": "Unigram", "vocab": [["a", 0.0]]}})
    with pytest.raises(CheckpointError, match="expected byte pairs"):
        read_clip_tokenizer(tmp_path)


@pytest.mark.parametrize("text", TEXTS)
def test_byte_tokenizers_know_every_text(text):
    clip, xlmr = Tokenizer.from_str(byte_clip_json(600)), Tokenizer.from_str(byte_xlmr_json(300))
    ids = clip.encode(text).ids
    assert ids[0] == 598 and ids[-1] == 599 and max(ids) < 600
    ids = xlmr.encode(text).ids
    assert ids[0] == 0 and ids[-1] == 2 and 3 not in ids and max(ids) < 260
    assert len(ids) == 2 + len(text.encode())
