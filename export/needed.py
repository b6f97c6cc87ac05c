"""What a command says where its extra is not installed."""

from collections.abc import Iterator
from contextlib import contextmanager

from x2i.runtime.commands.refusal import Refusal


@contextmanager
def needing(extra: str, command: str) -> Iterator[None]:
    """Around a command's imports: a missing package is refused with the extra that brings it."""
    try:
        yield
    except ModuleNotFoundError as missing:
        if (missing.name or "").startswith("x2i"):
            raise
        raise Refusal(f"{command} needs {missing.name}: pip install 'x2i-edge[{extra}]'") from missing
