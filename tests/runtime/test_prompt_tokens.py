"""What becomes of a prompt's added tokens, against diffusers, and what is said of other programs' syntax."""

from types import SimpleNamespace

import pytest
from diffusers.loaders import TextualInversionLoaderMixin
from tokenizers import Tokenizer as Backend
from transformers import CLIPTokenizer
from x2i.models.clip.published_tokenizer import read_clip_tokenizer
from x2i.models.random.byte_tokenizer import byte_clip_json
from x2i.runtime.inputs.text.marker import read_markers
from x2i.runtime.inputs.text.word import place_word
from x2i.runtime.media.prompts.syntax import syntax_note
from x2i.runtime.media.tokenizer import Tokenizer

PLACEHOLDERS = ["<cat-toy>", "<cat-toy>_1", "<cat-toy>_2", "<x>", "*dog*", "*dog*_1"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    backend = Backend.from_str(byte_clip_json(514))
    backend.save(str(folder / "tokenizer.json"))
    peer = CLIPTokenizer.from_pretrained(folder, model_max_length=20)
    peer.add_tokens(PLACEHOLDERS)
    peer.save_pretrained(folder / "saved")
    return folder / "saved"


@pytest.fixture(scope="module")
def tokenizer(folder) -> Tokenizer:
    read = read_clip_tokenizer(folder)
    path = folder.parent / "bundle.json"
    path.write_text(read.json, encoding="utf-8")
    return Tokenizer(path, read.window, read.pad_id)


@pytest.mark.parametrize(
    "prompt",
    [
        "a <cat-toy>",
        "<cat-toy>,<cat-toy>",
        "a <x> and *dog* and <cat-toy>!",
        "a <Cat-Toy> *DOG*",
        "nothing",
        "",
        "a<cat-toy>b",
        "a long text before <cat-toy>",
    ],
)
def test_placeholders_of_several_vectors_as_diffusers_expands_them(folder, tokenizer, prompt):
    peer = CLIPTokenizer.from_pretrained(folder)
    expanded = TextualInversionLoaderMixin.maybe_convert_prompt(
        SimpleNamespace(
            _maybe_convert_prompt=lambda p, t: TextualInversionLoaderMixin._maybe_convert_prompt(None, p, t)
        ),
        prompt,
        peer,
    )
    assert tokenizer.expanded(prompt) == expanded
    expected = peer(expanded, padding="max_length", max_length=peer.model_max_length, truncation=True)
    tokens = tokenizer([prompt, ""])
    assert tokens.input_ids[0].tolist() == expected["input_ids"]
    assert tokens.attention_mask[0].tolist() == expected["attention_mask"]


def test_words_and_markers_beside_a_placeholder_of_several_vectors(tokenizer):
    """ELITE's word stands behind all vectors, and FastComposer's marker marks the last."""
    assert place_word("<cat-toy> S", "S", tokenizer).index == 4
    marked = read_markers("<cat-toy><|image|> b", "<|image|>", tokenizer)
    assert marked.input_ids[:4].tolist() == [512, 514, 515, 516] and marked.object_index[:5].tolist() == [-1] * 3 + [
        0,
        -1,
    ]


WEIGHTED = [
    "a (red:1.3) apple",
    "(a, b:0.9)",
    "((cat))",
    "[[cat]]",
    "cat BREAK dog",
    "cat\nBREAK\ndog",
    "a cat AND a dog",
    "<lora:foo:0.8> cat",
    "<hypernet:foo:1>",
    "[cat:dog:0.5]",
    "[cat::0.5]",
    "[:cat:10]",
    "[cat:0.5]",
    "[a|b]",
    "(word)1.3",
    "(word)++",
    "embedding:easynegative",
    r"(\(x\):1.1)",
]
ORDINARY = [
    "a cat (in a hat)",
    "aspect (16:9)",
    "at [10:30]",
    "(John 3:16)",
    "(scale 1:10)",
    "ROCK AND ROLL",
    "SPRING BREAK 1999",
    "a (very) [nice] cat",
    "smile :) (:",
    "cats and dogs, a break",
    "(note: a cat)",
    "C++ and f(x)",
    "a (b (c) d)",
    "<cat-toy> <x>",
    "salt & pepper | x",
    "Breaking news, BREAKING news",
    "[sic] [citation needed]",
    "AND",
]


@pytest.mark.parametrize("prompt", WEIGHTED)
def test_other_programs_syntax_is_told(prompt):
    note = syntax_note(prompt, "prompt", ())
    assert note is not None and note.startswith("prompt: ") and "is read as letters" in note and "\n" not in note


@pytest.mark.parametrize("prompt", ORDINARY)
def test_ordinary_text_is_not(prompt):
    assert syntax_note(prompt, "prompt", ()) is None


def test_what_the_tokenizer_has_a_token_for_is_not():
    assert syntax_note("<lora:foo:0.8> cat", "prompt", {"<lora:foo:0.8>"}) is None
    many = syntax_note(", ".join(f"(word{i}x:1.{i})" for i in range(9)), "negative", ())
    assert many is not None and "and 6 more" in many and many.startswith("negative: ")


@pytest.mark.parametrize("piece", ["[:", "(:", "(( ", "BREAK a ", "<lora:", "[|", "(\\", "[["])
def test_a_long_prompt_is_read_in_a_moment(piece):
    """Nothing in it is looked at once more for every character."""
    syntax_note(piece * 100_000, "prompt", ())
