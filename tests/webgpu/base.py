"""Prints what the base install needs besides onnxruntime, a line each: the environment of `make webgpu` has another."""

import tomllib
from pathlib import Path

if __name__ == "__main__":
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8"))["project"]
    print(*(name for name in project["dependencies"] if not name.startswith("onnxruntime")), sep="\n")
