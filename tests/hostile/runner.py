"""Tries inputs in worker processes, restarts those that die, and tells what held and what did not, by kind."""

import argparse
import os
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from .case import SECONDS, Case, enter, tried
from .endpoints import fuzz
from .known import KNOWN
from .pool import results
from .registry import FOLDERS, KINDS
from .systems import SYSTEMS, TOKENS

SERVED = ("gluegen-text", "ip-adapter", "muse")
"""Bundles of the server that is tried."""
REQUESTS = 40
"""Requests that are drawn for each of its endpoints, beside those that cover the schema's bounds."""


def main() -> int:
    """Exit code 1 where an input failed that is not in KNOWN."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="a kind of inputs; all if left out")
    parser.add_argument("--tokens", nargs="*", choices=list(TOKENS), help="systems that draw tokens; all if left out")
    parser.add_argument("--match", default="", help="only inputs whose name holds this text")
    parser.add_argument("--every", type=int, default=1, help="only every n-th input of each kind")
    parser.add_argument("--jobs", type=int, default=2, help="inputs tried at once")
    asked = parser.parse_args()
    tokens = TOKENS if asked.tokens is None else asked.tokens
    systems = [name for name in SYSTEMS if name in tokens or name not in TOKENS]
    kinds = [[case for case in KINDS[kind](systems) if asked.match in case.name] for kind in asked.kind or KINDS]
    cases = [case for kind in kinds for case in kind[:: asked.every]]
    start = time.monotonic()
    failed = dict(failures(cases, asked.jobs, systems))
    print(table(cases, failed))
    print(f"{len(cases)} inputs in {time.monotonic() - start:.0f} s")
    said = "" if asked.kind or asked.match else requests_failed(asked.every)
    return 1 if said or any(known_reason(case, why) is None for case, why in failed.items()) else 0


def requests_failed(every: int) -> str:
    """What schemathesis says of requests to a server that failed."""
    tried, said = fuzz([SYSTEMS[name].source() for name in SERVED], max(1, REQUESTS // every))
    print(said or f"{tried} requests to a server held")
    return said


def failures(cases: list[Case], jobs: int, systems: Sequence[str]) -> Iterator[tuple[Case, str]]:
    """The inputs that did not hold, each told when it is known, with the reason."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    sources = {name: SYSTEMS[name].source() for name in systems} | {name: made() for name, made in FOLDERS.items()}
    scratch = Path(tempfile.mkdtemp(prefix="x2i-hostile-"))
    try:
        for number, problem in results(
            lambda number: tried(cases[number]), lambda: enter(sources, scratch), len(cases), jobs, SECONDS
        ):
            if problem is not None:
                known = "known: " if known_reason(cases[number], problem) else ""
                line = f"{known}{cases[number].kind} {cases[number].name}\n    {problem}"
                print(line.encode("utf-8", "backslashreplace").decode(), flush=True)
                yield cases[number], problem
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def known_reason(case: Case, problem: str) -> str | None:
    """Why a failure is known to remain, None where it is not."""
    found = (entry.reason for entry in KNOWN if entry.kind == case.kind and entry.fits(case.name, problem))
    return next(found, None)


def table(cases: Iterable[Case], failed: dict[Case, str]) -> str:
    """Tried, held and failed by kind."""
    number: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        known = case in failed and known_reason(case, failed[case]) is not None
        number[case.kind].update(["tried", "known" if known else "failed" if case in failed else "held"])
    total = sum(number.values(), Counter[str]())
    columns = ("tried", "held", "known", "failed")
    lines = [f"{'kind':<14}" + "".join(f"{column:>8}" for column in columns)]
    lines += [
        f"{kind:<14}" + "".join(f"{counts[column]:>8}" for column in columns)
        for kind, counts in (*number.items(), ("all", total))
    ]
    return "\n".join(lines)
