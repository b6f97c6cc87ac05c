"""Reads pickled checkpoints without running what they carry, and names what wanted to run."""

import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

from .errors import CheckpointError

_HARMLESS = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2|torch(\.cuda)?\.\w*(Storage|Tensor)|"
    r"torch\.storage\.\w+|torch\.(Size|device|b?float\w*|double|half|u?int\w*|long|short|bool|complex\w+)|"
    r"torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout|collections\.(OrderedDict|Counter)|_codecs\.encode"
)
# What a damaged file makes the weights-only unpickler raise, beside the errors meant for it.
_DAMAGE = (
    pickle.UnpicklingError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    LookupError,
    AttributeError,
    TypeError,
    AssertionError,
    OverflowError,
    struct.error,
)


def unpickle(path: Path) -> Any:
    """What a file of torch.save holds, with its tensors on the CPU; raises CheckpointError instead of running code.

    Files of the zip format (torch 1.6 and later) are mapped, not read: a tensor's pages load when they are used.
    """
    zipped = zipfile.is_zipfile(path)
    if not zipped:
        _require_pickle(path)
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except _DAMAGE as error:
        wanted = sorted({name for name in _named_globals(path) if not _HARMLESS.fullmatch(name)})
        if wanted:
            raise CheckpointError(
                f"{path} refused: expected tensors only, got a pickle that wants to run {', '.join(wanted)}; "
                "fix: convert the file to safetensors where its source is trusted"
            ) from error
        raise CheckpointError(
            f"{path} cannot be read: expected a whole torch.save file, got {_first_sentence(error)}; "
            "fix: download it again, and compare its size with the publisher's"
        ) from error


def _require_pickle(path: Path) -> None:
    with path.open("rb") as file:
        head = file.read(64)
    if head[:1] == b"\x80":
        return
    looks = "an empty file" if not head else f"a file that begins with {head[:16]!r}"
    if head.startswith(b"version https://git-lfs"):
        looks = "a Git LFS pointer (run `git lfs pull`)"
    elif head[:4] == b"PK\x03\x04":
        looks = "a truncated zip"
    elif head.lstrip()[:1] == b"<":
        looks = "a web page"
    raise CheckpointError(
        f"{path} cannot be read: expected a torch.save file, got {looks}; fix: download the checkpoint itself again"
    )


def _named_globals(path: Path) -> Iterator[str]:
    """Dotted names that the file's pickles import, found by reading their opcodes, never by following them."""
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            yield from _globals_of(file)
        return
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                if entry.endswith(".pkl"):
                    with archive.open(entry) as file:
                        yield from _globals_of(file)
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError):
        return


def _globals_of(file: IO[bytes]) -> Iterator[str]:
    strings: list[str] = []
    memo: dict[int, str] = {}
    kept = 0
    try:
        while True:  # torch's older format is several pickles in a row
            for opcode, argument, _ in pickletools.genops(file):
                if opcode.name in ("GLOBAL", "INST"):
                    yield str(argument).replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL":
                    yield ".".join(strings[-2:])
                elif opcode.name == "MEMOIZE" or "PUT" in opcode.name:
                    memo[kept if argument is None else int(argument)] = strings[-1] if strings else ""
                    kept += 1
                elif "GET" in opcode.name:
                    strings.append(memo.get(int(argument or 0), ""))
                elif isinstance(argument, str):
                    strings.append(argument)
    except (ValueError, struct.error, OverflowError, OSError, EOFError, zipfile.BadZipFile):
        return


def _first_sentence(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return re.split(r"\n|\. ", text, maxsplit=1)[0][:200]
