"""Servers of tests, one for each module."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.runtime.server.running import Gate, Running, running


@pytest.fixture(scope="module")
def server(tiny_bundle: Path) -> Iterator[Running]:
    """One of GlueGen's text bundle, whose queue is short."""
    with running(tiny_bundle, waiting=4) as server:
        yield server


@pytest.fixture
def gate(server: Running) -> Iterator[Gate]:
    """Before the network of its bundle."""
    gate = Gate(server.bundle())
    yield gate
    gate.remove()
