from pathlib import Path

import pytest
from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory) -> Path:
    """GlueGen's text path from tiny random weights: real graphs, no files needed. Tests must not change it."""
    out = tmp_path_factory.mktemp("tiny") / "bundle"
    export_bundle(ExportPlan("gluegen-text", out, random_weights="tiny", licences=("none: random",)))
    return out
