"""Where the subject's embeddings go: the authors' count of words, and the word's own token."""

import json

import numpy as np
import pytest
import tokenizers
from x2i.models.clip.published_tokenizer import clip_tokenizer_json
from x2i.models.random.byte_tokenizer import byte_clip_json
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.text.word import authors_index, place_word
from x2i.runtime.media.tokenizer import Tokenizer

from tests.goldens import golden
from tests.numerics import assert_close


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> Tokenizer:
    """The goldens' vocabulary: "photo", "of", "beach" are single tokens, "jungle", "dog" and "very" are not."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(clip_tokenizer_json(golden("elite/model/tokenizer")), "utf-8")
    return Tokenizer(path, 77, 588)


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> Tokenizer:
    """Every letter is a token, in a window of 12."""
    path = tmp_path_factory.mktemp("letters") / "tokenizer.json"
    path.write_text(byte_clip_json(600), "utf-8")
    return Tokenizer(path, 12, 599)


def prompts() -> list[dict]:
    return json.loads(golden("elite/golden/prompts.json").read_text("utf-8"))["rows"]


def refusal(prompt: str, word: str, *arguments) -> str:
    with pytest.raises(InputError) as raised:
        place_word(prompt, word, *arguments)
    (line,) = raised.value.problems
    assert line.startswith(("prompt: expected", "word: expected")) and ";" in line and "\n" not in line
    return line


def test_the_authors_tokens_and_indices(tokenizer: Tokenizer) -> None:
    drawn = 0
    for row in prompts():
        ids = tokenizer([row["text"]]).input_ids[0]
        assert_close(ids, np.asarray(row.get("input_ids_with_ftfy", row["input_ids"])), "exact")
        assert authors_index(row["text"], row["placeholder"]) == row["index"], row["text"]
        try:
            index = place_word(row["text"], row["placeholder"], tokenizer, "authors").index
        except InputError:
            continue
        assert index == row["index"]
        drawn += 1
    assert drawn == 11


@pytest.mark.parametrize(
    ("prompt", "index"),
    [
        ("a photo of a S", 5),
        ("S", 1),
        ("  a  photo of\ta S\n", 5),
        ("a photo of S.", 4),
        ("a photo of (S), on the beach", 5),
        ("the S's beach", 2),
        ("S-of-S2-and-s", 1),
        ("a jungle scene with a S", 14),
        ("Soon sunglasses S", 14),
        ("é S İ", 3),
        ("😀 下 S", 8),
        ("'S'", 2),
        ("XS S", 3),
    ],
)
def test_at_the_words_own_token(tokenizer: Tokenizer, prompt: str, index: int) -> None:
    placed = place_word(prompt, "S", tokenizer)
    assert (placed.index, placed.notes) == (index, ())
    ids = tokenizer([prompt, "S"]).input_ids
    assert ids[0, index] == ids[1, 1]


def test_signs_as_words(tokenizer: Tokenizer) -> None:
    assert place_word("the * in a box", "*", tokenizer).index == 2
    assert place_word("the *, in a box", "*", tokenizer).index == 2


def test_a_word_that_shares_its_token(tmp_path) -> None:
    """Some vocabularies join letters and signs: then "S." does not count beside "S", and is refused alone."""
    joined = tokenizers.Tokenizer(tokenizers.models.WordLevel({"S": 0, "S.": 1, "a": 2}, unk_token="a"))
    joined.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    joined.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer(tmp_path / "tokenizer.json", 9, 0)
    assert place_word("a S. a S", "S", tokenizer).index == 3
    assert "got it joined to other signs in 'a S.'; put spaces around it" in refusal("a S.", "S", tokenizer)


def test_placements_differ_only_behind_split_words(tokenizer: Tokenizer) -> None:
    for prompt in ("a photo of a S", "the S on my beach", "S"):
        assert place_word(prompt, "S", tokenizer) == place_word(prompt, "S", tokenizer, "authors")
    placed = place_word("a jungle scene with a S", "S", tokenizer, "authors")
    assert placed.index == 6
    assert placed.notes == (
        "placement: counting words as the authors do puts the subject at token 6, but 'S' is token 14; placement "
        "'token' puts it there",
    )


@pytest.mark.parametrize("placement", ["token", "authors"])
def test_prompts_without_the_word(tokenizer: Tokenizer, placement: str) -> None:
    assert "the word 'S' once, where the subject goes, got 'a photo'; write 'S' there" in refusal(
        "a photo", "S", tokenizer, placement
    )
    assert "got it in other letters in 'a photo of a s'; write 'S'" in refusal(
        "a photo of a s", "S", tokenizer, placement
    )
    assert "got it 2 times in 'a S next to a S'; keep one" in refusal("a S next to a S", "S", tokenizer, placement)
    assert "got it 2 times in" in refusal("a S, S.", "S", tokenizer, placement)
    assert "got ''" in refusal("", "S", tokenizer, placement)
    assert refusal("Soup Souffle" * 20, "S", tokenizer, placement).count("Soup") < 8
    for word in ("", " ", "red dog", " S", "S\n"):
        assert f"one word without spaces, got {word!r}" in refusal("a S", word, tokenizer, placement)


def test_punctuation_is_the_authors_blind_spot(tokenizer: Tokenizer) -> None:
    assert "got it joined to other signs in 'a photo of a S.'; put spaces" in refusal(
        "a photo of a S.", "S", tokenizer, "authors"
    )


def test_a_word_of_several_tokens(tokenizer: Tokenizer) -> None:
    for word in ("dog", "*sks*", "é"):
        line = refusal(f"a {word}", word, tokenizer)
        assert line.startswith(f"word: expected a word of one token, {word!r} is split into ")
        placed = place_word(f"a {word}", word, tokenizer, "authors")
        assert placed.index == 2 and "only the first of which is replaced" in placed.notes[0]


def test_beyond_the_window(letters: Tokenizer) -> None:
    """12 places: the start, ten letters, the end."""
    assert place_word("abcdefghi S", "S", letters).index == 10
    assert "within the first 10 tokens, got it at 11 of the encoder's 12" in refusal("abcdefghij S", "S", letters)
    assert place_word("abcdefghi S more", "S", letters).index == 10
    assert place_word("abcdefghi S", "S", letters, "authors").index == 2
    assert place_word("a b c d e f g h i j S", "S", letters, "authors").index == 11
    assert "got it at 12 of" in refusal("a b c d e f g h i j k S", "S", letters, "authors")


def test_several_embeddings(letters: Tokenizer) -> None:
    """They push the end of the prompt out of the window, from the last place on."""
    assert place_word("a S on", "S", letters, "token", 5) == place_word("a S on", "S", letters, "token", 1)
    assert not place_word("a S one tw", "S", letters, "token", 5).notes
    placed = place_word("a S one two", "S", letters, "token", 5)
    assert placed.index == 2
    assert placed.notes == ("prompt: 5 embeddings leave it 8 of the 12 tokens; this part is not drawn: 'o'",)
    assert place_word("abcdef S", "S", letters, "token", 5).index == 7
    assert "within the first 7 tokens, got it at 8" in refusal("abcdefg S", "S", letters, "token", 5)
    assert "within the first 6 tokens, got it at 7" in refusal("abcdef S and more", "S", letters, "token", 5)


def test_spans_lead_back_to_the_prompt(tokenizer: Tokenizer) -> None:
    prompt = "a photo,  of É 'S'"
    ids = tokenizer([prompt]).input_ids[0]
    spans = tokenizer.spans(prompt)
    assert spans[0] == spans[-1] == (0, 0)
    assert [prompt[begin:end] for begin, end in spans[1:-1]] == ["a", "photo", ",", "of", "É", "É", "'", "S", "'"]
    assert len(spans) == np.flatnonzero(ids == ids[-1])[0] + 1 and tokenizer.window == len(ids)
