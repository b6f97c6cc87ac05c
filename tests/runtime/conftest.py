from pathlib import Path

import pytest
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan


def random_bundle(system: str, out: Path) -> Path:
    export_bundle(ExportPlan(system, out, random_weights="tiny", licences=("none: random",)))
    return out


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """GlueGen's text path from tiny random weights: real graphs, no files needed. Tests must not change it."""
    return random_bundle("gluegen-text", tmp_path_factory.mktemp("tiny") / "bundle")


@pytest.fixture(scope="session")
def elite_bundle(tmp_path_factory) -> Path:
    """ELITE, made and to be left alone like `tiny_bundle`."""
    return random_bundle("elite", tmp_path_factory.mktemp("elite") / "bundle")


@pytest.fixture(scope="session")
def ip_adapter_bundle(tmp_path_factory) -> Path:
    """IP-Adapter, made and to be left alone like `tiny_bundle`."""
    return random_bundle("ip-adapter", tmp_path_factory.mktemp("ip_adapter") / "bundle")
