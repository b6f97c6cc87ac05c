"""Items as they are spelled: kinds, words with colons, weights; and the ways back."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from x2i.runtime.errors import InputError
from x2i.runtime.items.item import Item, item_file, item_of, item_texts, parse_item, several_items

SPELLED = {
    "text:a house:1.0": Item("text", "a house", 1.0),
    "text:a house": Item("text", "a house", 1.0),
    "text:a house: at night:0.25": Item("text", "a house: at night", 0.25),
    "text:a house: at night": Item("text", "a house: at night", 1.0),
    "text:at 10:30:": Item("text", "at 10:30", 1.0),
    "text:at 10:30:2": Item("text", "at 10:30", 2.0),
    "text:image:a.png:3": Item("text", "image:a.png", 3.0),
    "text:1.0": Item("text", "1.0", 1.0),
    "text::2": Item("text", "", 2.0),
    "image:sea.png": Item("image", "sea.png", 1.0),
    "image:sea.png:0.7": Item("image", "sea.png", 0.7),
    r"image:C:\sea.png:0.7": Item("image", r"C:\sea.png", 0.7),
    r"image:C:\sea.png": Item("image", r"C:\sea.png", 1.0),
    "image:/a:b/sea.png": Item("image", "/a:b/sea.png", 1.0),
}


@pytest.mark.parametrize("text", SPELLED)
def test_an_item_is_read_from_both_ends(text):
    assert parse_item(text) == SPELLED[text]


@pytest.mark.parametrize("text", SPELLED)
def test_what_is_written_of_an_item_reads_the_same(text):
    item = SPELLED[text]
    assert [parse_item(each) for each in item_texts([item])] == [item]


def test_a_weight_is_written_to_the_last_bit():
    weight = 0.1 + 0.2
    (text,) = item_texts(("text", "a house", weight))
    assert parse_item(text).weight == weight


@pytest.mark.parametrize("text", ["sound:a.wav:1", "a house", "", ":", "Text:a", "image:sea.png:much", "video:a"])
def test_what_is_no_item_is_refused_in_a_line(text):
    with pytest.raises(InputError) as told:
        parse_item(text)
    assert len(told.value.problems) == 1
    assert item_file(text) is None


def test_parts_of_an_item():
    picture = Image.new("RGB", (3, 3))
    assert item_of(("image", picture)) == Item("image", picture, 1.0)
    assert item_of(["text", "a", 0.5]) == Item("text", "a", 0.5)
    for wrong in (("sound", "a"), ("text",), 5, None, ("text", "a", 1, 2), (1, "a")):
        with pytest.raises(InputError):
            item_of(wrong)


def test_one_item_or_many():
    assert several_items(None) == ()
    assert several_items("text:a") == ["text:a"]
    assert several_items(("text", "a")) == [("text", "a")]
    assert several_items(("text:a", "text:b")) == ("text:a", "text:b")
    assert several_items([("text", "a"), "text:b"]) == [("text", "a"), "text:b"]


def test_the_file_of_an_item():
    assert item_file("image:sea.png:0.5") == Path("sea.png")
    assert item_file("text:sea.png") is None
    picture = np.zeros((2, 2, 3), np.uint8)
    assert item_texts([("image", picture), ("image", Path("a") / "sea.png", 2)]) == [picture, "image:a/sea.png:2.0"]
