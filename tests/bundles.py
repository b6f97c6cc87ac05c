"""Bundles of every system from tiny random weights, and an embedded one, for tests that only read them."""

from dataclasses import replace
from pathlib import Path

import pytest
from x2i.emoji.embedded import EMBEDDED, embedded_t5, embedded_text
from x2i.emoji.world.vocabulary import languages
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan

from tests.made_once import made_once

SPOKEN = ("German", "Japanese")
READERS = (*SPOKEN, "French")
"""The languages of the embedded bundle: those that tests ask for, and the one of the README's example."""


@pytest.fixture(scope="session")
def tiny_bundle() -> Path:
    """GlueGen's text path from tiny random weights: real graphs, no files needed. Tests must not change it."""
    return tiny("gluegen-text")


@pytest.fixture(scope="session")
def elite_bundle() -> Path:
    """ELITE from tiny random weights."""
    return tiny("elite")


@pytest.fixture(scope="session")
def ip_adapter_bundle() -> Path:
    """IP-Adapter from tiny random weights."""
    return tiny("ip-adapter")


@pytest.fixture(scope="session")
def fastcomposer_bundle() -> Path:
    """FastComposer from tiny random weights."""
    return tiny("fastcomposer")


@pytest.fixture(scope="session")
def sound_bundle() -> Path:
    """GlueGen's sound path from tiny random weights, on the base of `tiny_bundle`."""
    return tiny("gluegen-sound")


@pytest.fixture(scope="session")
def embedded_bundle() -> Path:
    """The embedded GlueGen for texts, with three of its languages."""

    def export(out: Path) -> None:
        plan = embedded_text(out)
        others = {f"translator:{language}" for language in languages()} - {f"translator:{spoken}" for spoken in READERS}
        export_bundle(replace(plan, parts={name: path for name, path in plan.parts.items() if name not in others}))

    return made_once("embedded-text", export)


def t5_bundle() -> Path:
    """The embedded GlueGen behind a T5. Tests must not change it."""
    return made_once("embedded-t5", lambda out: export_bundle(embedded_t5(out)))


def whole_embedded(system: str) -> Path:
    """The embedded bundle of a system, as `make demo` exports it. Tests must not change it."""

    def export(out: Path) -> None:
        export_bundle(EMBEDDED[system][0](out))

    return made_once(f"embedded-{system}", export)


def tiny(system: str) -> Path:
    def export(out: Path) -> None:
        export_bundle(ExportPlan(system, out, random_weights="tiny", licences=("none: random",)))

    return made_once(f"tiny-{system}", export)
