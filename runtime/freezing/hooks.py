"""Where PyInstaller finds the hook of x2i: the entry point `pyinstaller40` names this function."""

from pathlib import Path


def hook_folders() -> list[str]:
    """The folder of `hook-x2i.runtime.py`."""
    return [str(Path(__file__).parent)]
