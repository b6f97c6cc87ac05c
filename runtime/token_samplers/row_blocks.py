"""Rows of classes, worked on in blocks that fit into a core's cache, on as many cores as a run has.

numpy lets go of the interpreter inside its loops, so threads share the work. What a block becomes depends on its rows
alone, and is the same on any number of cores.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar

BLOCK_VALUES = 1 << 17
"""What is worked on at once: with its float64 copies it stays in a core's second cache, where passes cost little."""
_cores: ContextVar[int] = ContextVar("cores", default=1)


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Inside, blocks are worked on by so many threads; elsewhere by the caller's own."""
    token = _cores.set(count)
    try:
        yield
    finally:
        _cores.reset(token)


def for_each_block(count: int, classes: int, work: Callable[[slice], None]) -> None:
    """Calls `work` with parts of `count` rows, each of about `BLOCK_VALUES` values where a row has `classes`.

    Several calls run at a time, in any order: none may write what another one reads.
    """
    several = max(1, BLOCK_VALUES // classes)
    blocks = [slice(first, min(first + several, count)) for first in range(0, count, several)]
    threads = min(_cores.get(), len(blocks))
    if threads < 2:
        for block in blocks:
            work(block)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, block) for block in blocks]:
            done.result()
