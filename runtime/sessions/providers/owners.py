"""Who installed the folder onnxruntime/: one distribution alone may.

`onnxruntime`, `onnxruntime-gpu`, `onnxruntime-webgpu` and their kin all write the same files. Each of them serves; none
can be depended on beside another, since an installer knows of no such conflict.
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import distributions

from ...errors import InputError

FILE = "onnxruntime/__init__.py"


def check_one_owner() -> None:
    """Raises InputError where several distributions own the folder, before work that would end in a half of each."""
    if problems := list(double_installs()):
        raise InputError(*problems)


def double_installs() -> Iterator[str]:
    """Distributions that installed the same onnxruntime/ folder: onnxruntime, onnxruntime-gpu and their kin.

    pip lets them overwrite each other's files, and uninstalling one takes the other's files along.
    """
    owners: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for found in distributions():
        # Most lists of files do not name it; to parse them all takes half a second.
        listed = found.read_text("RECORD")
        if listed is not None and FILE not in listed:
            continue
        for file in found.files or ():
            if file.as_posix() == FILE:
                owners[os.path.realpath(str(file.locate()))].add((found.metadata["Name"], found.version))
    for path, pair in sorted(owners.items()):
        if len(pair) > 1:
            who = " and ".join(f"{name} {version}" for name, version in sorted(pair))
            yield (
                f"{who} share the folder {os.path.dirname(path)} and have overwritten each other; "
                f"fix: pip uninstall -y {' '.join(sorted({name for name, _ in pair}))} && pip install onnxruntime"
            )
