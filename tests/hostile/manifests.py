"""Bundles whose manifest is wrong in one place: every field, about two dozen wrongs each."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

from x2i.runtime.bundle.manifest import Manifest
from x2i.runtime.bundle.preset import Preset, Tuned
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.bundle.records import KEY, KeyedRecord, decode
from x2i.runtime.gate.record import Case as GateCase
from x2i.runtime.gate.record import Category, Closeness, Gate, Judged, Limits

from .case import Case
from .held import Command, refused_or_drawn
from .room import Room
from .systems import SYSTEMS, drawing
from .values import some

FreePath = tuple[str | int, ...]
MARK = "@@here@@"
DEEP = 100_000
RAW = {
    "NaN": "NaN",
    "Infinity": "Infinity",
    "1e400": "1e400",
    "-1e400": "-1e400",
    "a number of 5000 digits": "9" * 5000,
    "nested arrays": "[" * DEEP + "]" * DEEP,
    "nested objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "a lone surrogate": '"\\ud800"',
    "a NUL": '"a\\u0000b"',
    "escapes": '"\\u001b[31m\\r\\n\\u202e"',
}
"""Written as they are, since no Python value is written so."""
NO_JSON = {"NaN", "Infinity", "1e400", "-1e400", "nested arrays", "nested objects", "an unknown key", "a key twice"}
"""What no reader of manifests may take, wherever it stands."""
VALUES = {
    "null": None,
    "true": True,
    "zero": 0,
    "minus one": -1,
    "a half": 0.5,
    "huge": 2**31 - 1,
    "too huge": 2**63,
    "tiny": 5e-324,
    "empty text": "",
    "long text": "x" * 200_000,
    "a way out": "../../../etc/passwd",
    "an absolute path": "/etc/passwd",
    "braces": "{language}{0.__class__}",
    "a star": "*",
    "empty array": [],
    "empty object": {},
}


TOKENS_EVERY = 3
"""Of the wrongs of a field that a walk through tokens brings so many make one case."""


def manifest_cases(systems: Sequence[str]) -> Iterator[Case]:
    """Every field of the text bundle's manifest, and of the other plans those that it has not: of a walk through tokens
    each sampler's anew."""
    seen: set[tuple[str, ...]] = set()
    for system in systems:
        base, tokens = _base(system), SYSTEMS[system].walks_tokens
        found = places(base, MANY, () if system == "gluegen-text" else ("plan",))
        if tokens:
            sampler = base["plan"]["processes"][-1]["sampler"]["name"]
            found = {(sampler, *kind) if "processes" in kind else kind: path for kind, path in found.items()}
        for number, path in enumerate(found[kind] for kind in found if kind not in seen):
            every = TOKENS_EVERY if tokens else 1
            for how, text in list(wrongs(base, path, number))[number % every :: every]:
                name = f"{system} {'.'.join(map(str, path))}: {how}"
                yield Case("manifest", name, _attempt(system, text, how in NO_JSON))
        seen |= found.keys()


def _attempt(system: str, text: str, must_refuse: bool) -> Any:
    def attempt(room: Room) -> str | None:
        bundle = room.bundle(system)
        with room.replaced(bundle, {"manifest.json": text.encode("utf-8", "surrogatepass")}):
            for command in (
                Command(["inspect", str(bundle)], must_refuse=must_refuse),
                drawing(room, system, quick=SYSTEMS[system].quick_by_options, must_refuse=must_refuse),
            ):
                if problem := refused_or_drawn(room, command):
                    return f"{command.arguments[0]}: {problem}"
        return None

    return attempt


def _base(system: str) -> dict[str, Any]:
    """The manifest as JSON with every optional field written out, small and quick to draw."""
    manifest = open_bundle(SYSTEMS[system].source(), check_files=False).manifest
    plan = manifest.plan
    if SYSTEMS[system].quick_by_options:
        return _readable(spelled_out(manifest))
    tuned = Tuned(1.0, 2.0, "ddim, 2 steps", "cpu", (Closeness(0.1, 30.0, 0.9),), _judged())
    preset = Preset("ddim", 2, guidance_interval=(900.0, 100.0), tuned=tuned)
    process = plan.latents
    small = replace(process.decoder, size=(64, 64)), replace(process.sampler, steps=2)
    process = replace(process, decoder=small[0], sampler=small[1])
    plan = replace(plan, processes=(process,), presets={"fast": preset})
    gate = None
    if system == "gluegen-text":
        proof = manifest.graphs["decoder"].proof
        drawn = {"noise": proof["latents"], "latents": proof["latents"], "picture": proof["image"]}
        run = GateCase(**drawn, prompt="red", options={"seed": 3, "language": "French"})
        gate = Gate((run,), Limits(0.1, 25.0, 0.9), (Closeness(0.1, 30.0, 0.9),), _judged())
    return _readable(spelled_out(replace(manifest, plan=plan, gate=gate)))


def _readable(base: dict[str, Any]) -> dict[str, Any]:
    """The same; what is refused as it is would hold whatever is wrong with it."""
    problems = decode(Manifest, json.loads(json.dumps(base)), "the good manifest").problems()
    assert not problems, problems
    return base


def _judged() -> Judged:
    return Judged("nobody", (Category("things", 10, 0.9, 0.9, 0.3, 0.3),))


def spelled_out(record: Any) -> Any:
    """The JSON form of a record with its defaults, None among them."""
    if isinstance(record, KeyedRecord):
        return {key: spelled_out(value) for key, value in record.to_keys().items()}
    if is_dataclass(record):
        values = {f.metadata.get(KEY, f.name): getattr(record, f.name) for f in fields(record)}
        return {key: spelled_out(value) for key, value in values.items()}
    if isinstance(record, dict):
        return {key: spelled_out(value) for key, value in record.items()}
    if isinstance(record, tuple | list):
        return [spelled_out(item) for item in record]
    return record


MANY = {"graphs": 2, "files": 1, "proof": 1, "producer": 1, "sources": 1}
"""Of objects whose keys are names of things: as many of them as there are kinds."""


def places(base: Any, many: Mapping[str, int], top: FreePath = ()) -> dict[tuple[str, ...], FreePath]:
    """The path to one field of each kind below `top`; of an object named in `many` so many, from its end."""
    found: dict[tuple[str, ...], FreePath] = {}

    def walk(value: Any, path: FreePath, kind: tuple[str, ...]) -> None:
        found.setdefault(kind, path)
        named = bool(kind) and kind[-1] in many
        items = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
        for key, item in items[-many[kind[-1]] :] if named else items:
            walk(item, (*path, key), (*kind, "*" if named else "[]" if isinstance(key, int) else key))

    walk(_at(base, top), top, tuple(map(str, top)))
    return found


def wrongs(base: Any, path: FreePath, number: int) -> Iterator[tuple[str, str]]:
    """What is wrong, and the manifest's text with it."""
    old = _at(base, path)
    values = {name: json.dumps(value) for name, value in VALUES.items() if value != old or type(value) is not type(old)}
    values["as text"] = json.dumps(json.dumps(old))
    if isinstance(old, list) and old:
        values |= {"twice as long": json.dumps(old + old), "10,000 items": json.dumps(old[:1] * 10_000)}
    if isinstance(old, dict):
        values["an unknown key"] = json.dumps(old | {"unknown": 1})
        values["a senseless key"] = json.dumps(old | {"\ud800\n" + "k" * 5000: 1})
        if old:
            first = next(iter(old))
            values["a key twice"] = json.dumps(old)[:-1] + f", {json.dumps(first)}: {json.dumps(old[first])}}}"
    if isinstance(old, int | float) and not isinstance(old, bool):
        values |= {f"number {value!r:.30}": json.dumps(value) for value in some("numbers", 3, number)}
    if isinstance(old, str):
        values |= {f"text {value!r:.30}": json.dumps(value) for value in some("texts", 3, number)}
    values |= {f"tree {value!r:.30}": json.dumps(value) for value in some("trees", 2, number)}
    template = json.dumps(_with(base, path, MARK))
    for how, text in (RAW | values).items():
        yield how, template.replace(json.dumps(MARK), text)
    if path:
        yield "left out", json.dumps(_without(base, path))


def _at(value: Any, path: FreePath) -> Any:
    for key in path:
        value = value[key]
    return value


def _with(value: Any, path: FreePath, new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(value[path[0]], path[1:], new)
    return copy


def _without(value: Any, path: FreePath) -> Any:
    copy = dict(value) if isinstance(value, dict) else list(value)
    if len(path) == 1:
        del copy[path[0]]
    else:
        copy[path[0]] = _without(value[path[0]], path[1:])
    return copy
