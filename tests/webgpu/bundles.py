"""Exports a tiny bundle of every system from random weights into a folder, those that are there left as they are.

`python tests/webgpu/bundles.py FOLDER [SYSTEM...]`; this takes torch, what is then drawn does not.
"""

import sys
from pathlib import Path

from x2i.export.exporter import export_bundle
from x2i.export.plan import ExportPlan
from x2i.export.systems.registry import SYSTEMS


def main(folder: Path, systems: list[str]) -> None:
    """Each system's bundle in a folder of its name."""
    for system in systems or SYSTEMS:
        if not (folder / system).exists():
            export_bundle(ExportPlan(system, folder / system, random_weights="tiny", licences=("none: random",)))
            print(f"exported {system}", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
