"""A bundle's pipeline as it draws on a device in half: every graph rounded where the device would."""

from pathlib import Path

from x2i.export.precision import fp16_emulation
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.pipeline import Pipeline
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile, Session


def half_pipeline(bundle: Path, work: Path) -> Pipeline:
    """`work` is an empty folder for the rounded graphs."""
    opened = open_bundle(bundle)

    def open_rounded(name: str) -> Session:
        fp16_emulation.emulate_graph(opened.graph_file(name).path, work / f"{name}.onnx")
        return open_session("cpu", GraphFile(name, work / f"{name}.onnx"))

    return Pipeline(opened, open_rounded)
