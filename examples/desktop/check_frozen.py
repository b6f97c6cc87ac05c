"""`python check_frozen.py FOLDER BUNDLE`: the frozen app is small, and draws what `x2i run` does without a Python."""

import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

APP = "x2i-desktop"
MOST_MEGABYTES = 320
"""Without a bundle, and without OpenVINO, which brings 150 MB of its own."""
PROMPT, OPTIONS = "ein roter Apfel", {"language": "German", "seed": "3"}
RUNS = 3
BARE = {"PATH": "/nonexistent", "QT_QPA_PLATFORM": "offscreen", "LC_ALL": "C.UTF-8", "X2I_BACKEND": "cpu"}
"""All that the app is started with."""


def main() -> int:
    """Prints what was found: 0 where all of it holds, 1 where something does not."""
    folder, bundle = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    size = megabytes(folder)
    print(f"{folder.name}: {size:.0f} MB, {len(list(folder.rglob('*')))} files")
    for part in sorted(folder.glob("_internal/*"), key=megabytes, reverse=True)[:6]:
        print(f"  {megabytes(part):6.1f} MB  {part.name}")
    with tempfile.TemporaryDirectory() as made:
        drawn, wanted = Path(made, "frozen.png"), Path(made, "run.png")
        options = [f"--set={name}={value}" for name, value in OPTIONS.items()]
        command: list[str | Path] = [folder / APP, bundle, PROMPT, *options, "--save", drawn]
        seconds = sorted(timed(made, *command) for _ in range(RUNS))
        print(f"start to first picture on the disk, its end included: {seconds[RUNS // 2]:.1f} s, median of {RUNS}")
        words = [word for name, value in OPTIONS.items() for word in (f"--{name}", value)]
        run = (Path(sys.executable).parent / "x2i", "run", bundle, PROMPT, *words, "--out", wanted)
        subprocess.run(
            [str(word) for word in run], check=True, capture_output=True, env={**os.environ, "X2I_BACKEND": "cpu"}
        )
        same = drawn.read_bytes() == wanted.read_bytes()
        print(f"bytes equal to x2i run: {'yes' if same else 'no'}")
        refused = subprocess.run([folder / APP, made, "--save", drawn], env=BARE, capture_output=True, text=True)
        lines = [line for line in refused.stderr.splitlines() if line.startswith(f"{APP}: error:")]
        print(f"a folder that is no bundle: exit code {refused.returncode}, {len(lines)} line")
    small = size <= MOST_MEGABYTES or find_spec("openvino") is not None
    if not small:
        print(f"expected at most {MOST_MEGABYTES} MB, got {size:.0f}")
    return 0 if small and same and (refused.returncode, len(lines)) == (2, 1) else 1


def timed(folder: str, *command: str | Path) -> float:
    """Seconds that a run takes from its start to its end."""
    begun = time.perf_counter()
    subprocess.run([str(word) for word in command], check=True, cwd=folder, env=BARE, capture_output=True, timeout=300)
    return time.perf_counter() - begun


def megabytes(path: Path) -> float:
    """Of a file, or of all files of a folder; what a link leads to counts once."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files if not each.is_symlink()) / 1e6


if __name__ == "__main__":
    sys.exit(main())
