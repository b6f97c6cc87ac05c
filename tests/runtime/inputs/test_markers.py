"""Markers in prompts against the original's own ids, masks and counts."""

import json

import numpy as np
import pytest
from x2i.models.clip.published_tokenizer import clip_tokenizer_json
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.text.marker import check_count, read_markers
from x2i.runtime.media.tokenizer import Tokenizer

from tests.goldens import golden


@pytest.fixture(scope="module")
def recorded():
    return json.loads(golden("fastcomposer/tokenization.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def tokenizer(recorded, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(clip_tokenizer_json(golden("fastcomposer/base/tokenizer")), "utf-8")
    pad = Tokenizer(path, 77, 0).ends()[1]
    return Tokenizer(path, recorded["model_max_length"], pad)


@pytest.mark.parametrize("variant", ["script", "pipeline"])
def test_ids_mask_and_text_are_the_originals(recorded, tokenizer, variant):
    """Rows that depend on the optional package ftfy are taken as with it, the usual rules of CLIP."""
    changed = json.loads(golden("fastcomposer/tokenization_ftfy_differences.json").read_text("utf-8"))["rows"]
    with_ftfy = {row["row"]: row for row in changed if row["variant"] == variant}
    told = recorded["variants"][variant]
    assert len(told["rows"]) >= 18
    for number, row in enumerate(told["rows"]):
        expected = with_ftfy.get(number, row)
        marked = read_markers(row["prompt"], told["image_token"], tokenizer)
        positions = np.flatnonzero(marked.object_index >= 0).tolist()
        assert marked.input_ids.tolist() == expected["input_ids"], row["prompt"]
        assert positions == expected["image_token_positions"], row["prompt"]
        assert marked.object_index[positions].tolist() == list(range(marked.count))
        assert marked.count == expected["num_objects"]
        assert marked.plain == expected["text_only_prompt"]
        assert tokenizer([marked.plain]).input_ids[0].tolist() == expected["text_only_input_ids"]


@pytest.mark.parametrize(
    ("prompt", "marker", "note"),
    [
        ("a man img and a woman img", "img", None),
        ("a man<|image|> and a woman<|image|>, both old", "<|image|>", None),
        ("a man<|image|>and a woman <|image|>", "<|image|>", "both words are one"),
        ("img a man", "img", "opening token"),
        ("a man img img", "img", "counts once"),
        ("a photo of imgur logo", "img", "inside a word"),
        ("an Manimg", "img", "inside a word"),
        ("a man Img", "img", "other letters"),
        ("a man" + " in the snow" * 40 + " img", "img", "behind the encoder's 77 tokens"),
    ],
)
def test_what_may_surprise_is_told(tokenizer, prompt, marker, note):
    notes = read_markers(prompt, marker, tokenizer).notes
    assert not notes if note is None else len(notes) == 1 and note in notes[0]


@pytest.mark.parametrize("marker", ["", "  ", 7, "\ud800"])
def test_what_cannot_be_a_marker_is_refused(tokenizer, marker):
    with pytest.raises(InputError, match="marker: expected text such as"):
        read_markers("a man img", marker, tokenizer)


@pytest.mark.parametrize("pictures", [0, 1, 3])
def test_every_marked_noun_needs_its_picture(tokenizer, pictures):
    marked = read_markers("a man img and a woman img", "img", tokenizer)
    check_count(marked, 2, "img")
    with pytest.raises(InputError, match=rf"got {pictures} pictures? for 2 marked"):
        check_count(marked, pictures, "img")
