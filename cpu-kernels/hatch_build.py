"""What hatchling asks when it builds the wheel: its version, the OpenVINO that it needs, and the compiled kernel."""

import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

ROOT = Path(__file__).parents[1]
# The repository's, by the name of their folder: the build's environment may be one without x2i-edge.
sys.path.insert(0, str(ROOT))

from kernels.cpu_attention.compile import compile_library  # noqa: E402
from kernels.cpu_attention.library import LIBRARY, PACKAGE, RECORD, openvino_release  # noqa: E402
from kernels.errors import KernelError  # noqa: E402


class Metadata(MetadataHookInterface):
    """The version is that of x2i-edge, then that of OpenVINO, so that there can be one for each of both."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Sets what depends on the two."""
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        metadata["version"] = f"{project['version']}.{openvino_release()}"
        metadata["dependencies"] = [f"openvino=={openvino_release()}"]


class Kernel(BuildHookInterface):
    """Compiles the kernel into the wheel, which is for one system and any Python 3."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Ends the build with one line where the kernel cannot be compiled."""
        self._folder = TemporaryDirectory()
        try:
            path = compile_library(Path(self._folder.name))
        except KernelError as error:
            sys.exit(f"x2i: error: {error}")
        for name in (LIBRARY, RECORD):
            build_data["force_include"][str(path.with_name(name))] = f"{PACKAGE}/{name}"
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-linux_x86_64"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Removes what was compiled, which the wheel now holds."""
        self._folder.cleanup()
