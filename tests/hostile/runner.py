"""Tries inputs in worker processes, restarts those that die, and tells what held and what did not, by kind."""

import argparse
import os
import shutil
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from concurrent.futures import TimeoutError as OutOfTime
from multiprocessing import get_context
from pathlib import Path

from pebble import ProcessExpired, ProcessPool

from .case import SECONDS, Case, enter, tried
from .known import KNOWN
from .registry import KINDS
from .systems import SYSTEMS

CASES: list[Case] = []
"""What the workers try; they are forked, and find it here."""


def main() -> int:
    """Exit code 1 where an input failed that is not in KNOWN."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="a kind of inputs; all if left out")
    parser.add_argument("--match", default="", help="only inputs whose name holds this text")
    parser.add_argument("--every", type=int, default=1, help="only every n-th input")
    parser.add_argument("--jobs", type=int, default=2, help="inputs tried at once")
    asked = parser.parse_args()
    cases = [case for kind in asked.kind or KINDS for case in KINDS[kind]() if asked.match in case.name][:: asked.every]
    start = time.monotonic()
    failed = dict(failures(cases, asked.jobs))
    print(table(cases, failed))
    print(f"{len(cases)} inputs in {time.monotonic() - start:.0f} s")
    return 1 if any(known_reason(case, why) is None for case, why in failed.items()) else 0


def failures(cases: list[Case], jobs: int) -> Iterator[tuple[Case, str]]:
    """The inputs that did not hold, each told when it is known, with the reason."""
    CASES[:] = cases
    _prepare()
    sources = {name: system.source() for name, system in SYSTEMS.items()}
    scratch = Path(tempfile.mkdtemp(prefix="x2i-hostile-"))
    try:
        with ProcessPool(jobs, initializer=enter, initargs=(sources, scratch), context=get_context("fork")) as pool:
            futures = [pool.schedule(_try, [number], timeout=SECONDS + 10) for number in range(len(cases))]
            for case, future in zip(cases, futures, strict=True):
                if (problem := _problem_of(future)) is not None:
                    known = "known: " if known_reason(case, problem) else ""
                    print(f"{known}{case.kind} {case.name}\n    {problem}".encode("utf-8", "backslashreplace").decode(), flush=True)
                    yield case, problem
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _prepare() -> None:
    """What every worker would import is imported once, before they are forked."""
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}


def _try(number: int) -> str | None:
    return tried(CASES[number])


def _problem_of(future) -> str | None:
    try:
        return future.result()
    except OutOfTime:
        return f"hang: nothing after {SECONDS} s, not even for a signal"
    except ProcessExpired as expired:
        return f"died: exit code {expired.exitcode}"


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
