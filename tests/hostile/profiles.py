"""Saved profiles that are wrong in one place, shown alone, beside a good one, and as a page."""

import json
from collections.abc import Iterator
from typing import Any

from x2i.runtime.profiling.record import (
    REVISION,
    AdapterCost,
    ColdStart,
    Event,
    Machine,
    MemorySample,
    Operator,
    Operators,
    Overhead,
    Phase,
    Profile,
    Rates,
    RunSettings,
    Samples,
    StageTime,
)

from .case import Case
from .held import Command, refused_or_drawn
from .manifests import NO_JSON, places, spelled_out, wrongs
from .room import Room

ONCE = Samples((0.5, 0.75))
GOOD = Profile(
    bundle="bundle",
    system="sd",
    precision=("fp32",),
    backend="cpu",
    notes=("a note",),
    machine=Machine("a processor", 2, ("avx2",), 1 << 30, "Linux", {"numpy": "2"}, 0.1),
    asked=RunSettings(1, "ddim", 7.5, (64, 64), 1, 2, None, 1, 2, ("prompt",), "library"),
    cold=ColdStart(ONCE, (Phase("import", 0.0, 0.5),), (MemorySample(0.1, 9000, 1000),), 9000),
    load={"decoder": 0.5},
    picture=ONCE,
    phases={"decode": ONCE},
    stages=(StageTime("denoiser", "denoise", 1, ONCE, "fp32", 1000, 4000, 5000, False),),
    steps=(ONCE,),
    operators=Operators((Operator("denoiser", "Conv", 1, 0.25),), 0.1),
    adapter=AdapterCost(0.0, None, None, "how"),
    rates=Rates({"fp32": 1e9}, 1e9, "how"),
    overhead=Overhead(0.01, 0.0, 0.02, 0.01),
    events=(Event("stages", "step 1", 0.0, 0.5), Event("graphs", "denoiser", 0.1, 0.4)),
    revision=REVISION,
)


EVERY = 8
"""Of the wrongs of a field so many make one case: its records are read as those of a manifest are."""


def profile_cases() -> Iterator[Case]:
    """Every field of a saved profile, some of its wrongs each."""
    base = json.loads(json.dumps(spelled_out(GOOD)))
    for number, path in enumerate(places(base, {}).values()):
        for how, text in list(wrongs(base, path, number))[number % EVERY :: EVERY]:
            yield Case("profile", f"{'.'.join(map(str, path))}: {how}", _attempt(base, text, how in NO_JSON))


def _attempt(base: Any, text: str, must_refuse: bool) -> Any:
    def attempt(room: Room) -> str | None:
        good, bad, page = (room.work / name for name in ("good.json", "bad.json", "page.html"))
        good.write_text(json.dumps(base))
        bad.write_bytes(text.encode("utf-8", "surrogatepass"))
        for words, outputs in (([bad], []), ([good, bad], []), ([bad, good, "--html", page], [page])):
            command = Command(["profile", *map(str, words)], outputs, must_refuse=must_refuse)
            if problem := refused_or_drawn(room, command):
                return f"{len(words)} words: {problem}"
        return None

    return attempt
