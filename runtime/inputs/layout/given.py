"""A layout as a caller gives it: JSON with objects, each of a category in a box."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ...errors import InputError
from ...files.reading import parse_json
from ..option import is_count, is_index, is_number, short
from .rules import WHOLE, Box, Layout, LayoutObject, LayoutRules, overlaps

SLACK = 1e-6
"""By so much a box may pass the picture's edge by rounding, of which nothing is said."""
BUILDER = {"no_object_classes": "classes", "no_max_objects": "objects", "no_tokens": "places",
           "encode_crop": "encode_crop", "use_group_parameter": "groups"}  # fmt: skip
"""The settings of the authors' builder, by the rules that they are here."""
ADDITIONAL = "use_additional_parameters"
"""A setting of theirs that no release has on."""
MOST_SETTING = 2**20


def given_layout(given: Any, rules: LayoutRules, notes: list[str]) -> tuple[Layout, LayoutRules]:
    """The layout and the rules that it names beside the bundle's. Raises InputError with every problem."""
    if isinstance(given, str):
        given = parse_json(given, "layout")
    if not isinstance(given, Mapping):
        raise InputError(f"layout: expected an object with the key 'objects', got {short(given)}")
    problems = _unknown(given, ("objects", "crop", "flip", "builder"), "layout")
    rules, found = _rules(given.get("builder"), rules)
    problems += found
    listed, objects = given.get("objects"), []
    if not isinstance(listed, list | tuple) or not listed:
        problems.append(f"layout: expected 'objects' as a list with one or more, got {short(listed)}")
        listed = []
    for number, each in enumerate(listed):
        made = _object(each, f"layout: objects[{number}]", rules, problems, notes)
        objects += [] if made is None else [made]
    crop = WHOLE if given.get("crop") is None else _box(given["crop"], "layout: crop", problems)
    if crop is not None and any(crop[axis] < -SLACK or crop[axis] + crop[axis + 2] > 1 + SLACK for axis in (0, 1)):
        problems.append(f"layout: crop: expected a box inside the picture, from 0 to 1, got {list(crop)}")
    flip = given.get("flip", False)
    if not isinstance(flip, bool):
        problems.append(f"layout: flip: expected true or false, got {short(flip)}")
    if problems:
        raise InputError(*problems)
    assert crop is not None, "a crop without a problem"
    return _checked(Layout(tuple(objects), crop, flip), rules, notes), rules


def _checked(layout: Layout, rules: LayoutRules, notes: list[str]) -> Layout:
    """The layout, if so many objects can be drawn. Raises InputError."""
    kept = layout.kept()
    if not kept:
        raise InputError(f"layout: expected an object in the crop {list(layout.crop)}, got none; move one, or the crop")
    if len(kept) > rules.objects:
        raise InputError(
            f"layout: expected at most {rules.objects} objects, as the model was trained with, got {len(kept)}; leave "
            "others out, or name its no_max_objects under builder"
        )
    notes += [
        f"layout: objects[{number}] is outside the crop, and is left out"
        for number, each in enumerate(layout.objects)
        if each not in kept
    ]
    return layout


def _object(given: Any, where: str, rules: LayoutRules, problems: list[str], notes: list[str]) -> LayoutObject | None:
    """One object, None where it has a problem."""
    if not isinstance(given, Mapping):
        problems.append(f"{where}: expected an object with category_no and bbox_xywh, got {short(given)}")
        return None
    before = len(problems)
    problems += _unknown(given, ("category_no", "bbox_xywh", "is_group_of"), where)
    category: Any = given.get("category_no")
    group = given.get("is_group_of", False)
    if not is_index(category, rules.classes):
        problems.append(
            f"{where}: expected category_no as a whole number from 0 to {rules.classes - 1}, got "
            f"{'none' if category is None else short(category)}"
        )
    if not isinstance(group, bool):
        problems.append(f"{where}: expected is_group_of as true or false, got {short(group)}")
    box = _box(given.get("bbox_xywh"), f"{where}: bbox_xywh", problems)
    if box is not None and not overlaps(box, WHOLE):
        problems.append(f"{where}: expected a box in the picture, which is from 0 to 1 on both sides, got {list(box)}")
    if box is None or len(problems) > before:
        return None
    if any(box[axis] < -SLACK or box[axis] + box[axis + 2] > 1 + SLACK for axis in (0, 1)):
        notes.append(f"{where} passes the picture's edge, where it is cut off")
    if group and not rules.groups:
        notes.append(f"{where} is read as one thing: this model knows no groups")
    return LayoutObject(int(category), box, group)


def _box(given: Any, where: str, problems: list[str]) -> Box | None:
    """x, y, width and height of more than nothing, None with a problem for anything else."""
    numbers = list(given) if isinstance(given, list | tuple) else []
    if len(numbers) != 4 or not all(map(is_number, numbers)):
        problems.append(f"{where}: expected [x, y, width, height] as shares of the picture, got {short(given)}")
        return None
    x, y, width, height = map(float, numbers)
    if width <= 0 or height <= 0:
        problems.append(f"{where}: expected a width and a height above 0, got {short(given)}")
        return None
    return x, y, width, height


def _rules(given: Any, rules: LayoutRules) -> tuple[LayoutRules, list[str]]:
    """The bundle's rules with those that the layout names, and what is wrong with these."""
    if given is None:
        return rules, []
    if not isinstance(given, Mapping):
        return rules, [f"layout: builder: expected an object with {', '.join(BUILDER)}, got {short(given)}"]
    problems = _unknown(given, (*BUILDER, ADDITIONAL), "layout: builder")
    if given.get(ADDITIONAL, False) is not False:
        problems.append(f"layout: builder: expected {ADDITIONAL} false, got {short(given[ADDITIONAL])}")
    changed = {}
    for name, rule in BUILDER.items():
        if name not in given:
            continue
        value, flag = given[name], isinstance(getattr(rules, rule), bool)
        if isinstance(value, bool) if flag else is_count(value, MOST_SETTING):
            changed[rule] = value
        else:
            expected = "true or false" if flag else f"a whole number from 1 to {MOST_SETTING}"
            problems.append(f"layout: builder: expected {name} as {expected}, got {short(value)}")
    return replace(rules, **changed), problems


def _unknown(given: Mapping[str, Any], known: tuple[str, ...], where: str) -> list[str]:
    strange = [short(key) for key in given if key not in known]
    return [f"{where}: expected the keys {', '.join(known)}, got {', '.join(strange)}"] if strange else []
