"""Layouts: tokens as Frido's builder makes them, and what is no layout."""

import json

import numpy as np
import pytest
from x2i.runtime.errors import InputError
from x2i.runtime.inputs.layout.boxes import LAYOUT_TOKENS, LayoutInput
from x2i.runtime.inputs.layout.given import given_layout
from x2i.runtime.inputs.layout.rules import LayoutRules
from x2i.runtime.inputs.option import CallContext, PreparedInputs

from tests.goldens import golden, golden_arrays

RULES = LayoutRules(classes=10, objects=4, places=25)
INPUT = LayoutInput(RULES, vocabulary=30, positions=16)


def prepared(layout, of=INPUT):
    made = PreparedInputs()
    of.prepare(CallContext({"layout": layout}, None, None, 1, 1), made)
    return made


def tokens(layout, of=INPUT):
    return prepared(layout, of).slots[LAYOUT_TOKENS][0].tolist()


def thing(category=3, box=(0.1, 0.2, 0.5, 0.6), **others):
    return {"category_no": category, "bbox_xywh": list(box), **others}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("tokens", {}),
        ("tokens_flipped", {"flip": True}),
        ("tokens_no_crop_encoding", {"builder": {"encode_crop": False}}),
    ],
)
def test_tokens_are_the_recorded_ones(name, changes):
    given = json.loads(golden("frido/layout2i/layouts.json").read_text())
    expected = golden_arrays("frido/layout2i/layout.npz")[name]
    reader = LayoutInput(LayoutRules(), vocabulary=10**6, positions=10**4)
    for objects, crop, row in zip(given["layouts"], given["crops"], expected, strict=True):
        builder = given["builder"] | changes.get("builder", {})
        layout = {"objects": objects, "crop": crop, **changes, "builder": builder}
        for form in (layout, json.dumps(layout)):
            made = prepared(form, reader).slots[LAYOUT_TOKENS]
            assert made.dtype == np.int64 and made[0].tolist() == row.tolist()


def place(x, y, sections=5):
    return round(y * (sections - 1)) * sections + round(x * (sections - 1))


def test_tokens_by_the_published_rule():
    group = thing(2, (0.0, 0.5, 0.5, 0.5), is_group_of=True)
    found = tokens({"objects": [thing(), group]})
    assert found == [
        *(3, place(0.1, 0.2), place(0.6, 0.8)),
        *(12, place(0.0, 0.5), place(0.5, 1.0)),
        *[24] * 6,
        *(0, 24),
    ]
    assert tokens({"objects": [thing()], "flip": True})[:3] == [3, place(0.4, 0.2), place(0.9, 0.8)]


def test_halves_go_to_the_even_place():
    """0.125 and 0.375 of 4 are halves."""
    assert tokens({"objects": [thing(0, (0.125, 0.375, 0.5, 0.5))]})[1:3] == [0 + 2 * 5, 2 + 4 * 5]


def test_a_crop_drops_what_it_does_not_touch():
    objects = [thing(1, (0.0, 0.0, 0.25, 1.0)), thing(2, (0.5, 0.0, 0.5, 1.0))]
    made = prepared({"objects": objects, "crop": [0.25, 0.0, 0.5, 1.0]})
    assert made.slots[LAYOUT_TOKENS][0, :3].tolist() == [2, place(0.5, 0.0), place(1.0, 1.0)]
    assert made.slots[LAYOUT_TOKENS][0, -2:].tolist() == [place(0.25, 0.0), place(0.75, 1.0)]
    assert made.notes == ["layout: objects[0] is outside the crop, and is left out"]
    layout = {"objects": objects, "crop": [0.25, 0.0, 0.5, 1.0], "builder": {"encode_crop": False}}
    assert tokens(layout) == [2, place(0.5, 0.0), place(1.0, 1.0), *[24] * 9]
    assert tokens(layout | {"flip": True})[:3] == [2, place(0.0, 0.0), place(0.5, 1.0)]


def test_a_box_past_the_edge_is_cut_off():
    made = prepared({"objects": [thing(1, (0.75, -0.25, 0.5, 0.5))]})
    assert made.slots[LAYOUT_TOKENS][0, :3].tolist() == [1, place(0.75, 0.0), place(1.0, 0.5)]
    assert made.notes == ["layout: objects[0] passes the picture's edge, where it is cut off"]


def test_groups_that_a_model_does_not_know():
    layout = {"objects": [thing(2, is_group_of=True)], "builder": {"use_group_parameter": False}}
    assert tokens(layout)[0] == 2
    assert "knows no groups" in prepared(layout).notes[0]


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        (None, "layout: expected what is drawn where, got none; give a layout (--layout boxes.json)"),
        ([], "layout: expected an object with the key 'objects', got []"),
        ("{", "layout: expected JSON"),
        ({}, "layout: expected 'objects' as a list with one or more, got None"),
        ({"objects": []}, "layout: expected 'objects' as a list with one or more, got []"),
        (
            {"objects": [thing()], "layouts": []},
            "layout: expected the keys objects, crop, flip, builder, got 'layouts'",
        ),
        ({"objects": [7]}, "layout: objects[0]: expected an object with category_no and bbox_xywh, got 7"),
        ({"objects": [thing(10)]}, "layout: objects[0]: expected category_no as a whole number from 0 to 9, got 10"),
        ({"objects": [thing(-1)]}, "from 0 to 9, got -1"),
        ({"objects": [thing(True)]}, "from 0 to 9, got True"),
        ({"objects": [thing("cat")]}, "from 0 to 9, got 'cat'"),
        ({"objects": [{"bbox_xywh": [0, 0, 1, 1]}]}, "from 0 to 9, got none"),
        ({"objects": [thing(), thing(1, (0.1, 0.2, 0.3))]}, "layout: objects[1]: bbox_xywh: expected [x, y, width"),
        ({"objects": [thing(1, (0.1, 0.2, 0.3, "a"))]}, "objects[0]: bbox_xywh: expected [x, y, width, height]"),
        ({"objects": [thing(1, (0.1, 0.2, 0.3, float("nan")))]}, "objects[0]: bbox_xywh: expected [x, y"),
        ({"objects": [thing(1, (0.1, 0.2, 0.0, 0.1))]}, "expected a width and a height above 0"),
        (
            {"objects": [thing(1, (1.0, 0.2, 0.3, 0.1))]},
            "objects[0]: expected a box in the picture, which is from 0 to",
        ),
        ({"objects": [thing(1, (-0.5, 0.2, 0.5, 0.1))]}, "objects[0]: expected a box in the picture"),
        ({"objects": [thing(colour="red")]}, "objects[0]: expected the keys category_no, bbox_xywh, is_group_of, got"),
        ({"objects": [thing(is_group_of=1)]}, "expected is_group_of as true or false, got 1"),
        ({"objects": [thing()] * 5}, "layout: expected at most 4 objects, as the model was trained with, got 5"),
        ({"objects": [thing()], "crop": [0, 0, 2, 1]}, "layout: crop: expected a box inside the picture"),
        ({"objects": [thing()], "crop": [0, 0, 1]}, "layout: crop: expected [x, y, width, height]"),
        ({"objects": [thing()], "crop": [0.9, 0.9, 0.1, 0.1]}, "expected an object in the crop"),
        ({"objects": [thing()], "flip": "yes"}, "layout: flip: expected true or false, got 'yes'"),
        ({"objects": [thing()], "builder": 5}, "layout: builder: expected an object with no_object_classes"),
        ({"objects": [thing()], "builder": {"no_max_objects": 0}}, "expected no_max_objects as a whole number from 1"),
        (
            {"objects": [thing()], "builder": {"no_max_objects": 5}},
            "no_max_objects: expected at most 16 tokens, got 17",
        ),
        ({"objects": [thing()], "builder": {"no_tokens": 24}}, "no_tokens: expected a square number"),
        ({"objects": [thing()], "builder": {"no_tokens": 36}}, "expected tokens below 30, got up to 35"),
        ({"objects": [thing()], "builder": {"no_object_classes": 16}}, "expected tokens below 30, got up to 31"),
        ({"objects": [thing()], "builder": {"encode_crop": 1}}, "expected encode_crop as true or false, got 1"),
        ({"objects": [thing()], "builder": {"use_additional_parameters": True}}, "use_additional_parameters false"),
        ({"objects": [thing()], "builder": {"colours": 3}}, "layout: builder: expected the keys no_object_classes"),
    ],
)
def test_what_is_no_layout_is_refused(layout, said):
    with pytest.raises(InputError) as told:
        prepared(layout)
    assert said in str(told.value) and len(told.value.problems) == 1


def test_every_problem_is_told_at_once():
    layout = {"objects": [thing(10, (2, 2, 1, 1)), thing(-1)], "crop": 3, "flip": 4, "builder": {"no_tokens": "x"}}
    with pytest.raises(InputError) as told:
        given_layout(layout, RULES, [])
    assert len(told.value.problems) == 6


def test_the_stand_in_is_a_layout():
    assert len(tokens(INPUT.stand_in()["layout"])) == RULES.length == INPUT.shapes(None, {})[LAYOUT_TOKENS][1]
    assert "up to 4 objects of 10 categories" in INPUT.describe()
