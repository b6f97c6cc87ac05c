"""Reads pickled checkpoints without running what they carry, and names what wanted to run."""

import pickle
import pickletools
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

import torch

from ..errors import CheckpointError

_HARMLESS = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_from_type_v2|torch(\.cuda)?\.\w*(Storage|Tensor)|"
    r"torch\.storage\.\w+|torch\.(Size|device|b?float\w*|double|half|u?int\w*|long|short|bool|complex\w+)|"
    r"torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout|collections\.(OrderedDict|Counter)|_codecs\.encode"
)
ZIP, PROTOCOL = b"PK\x03\x04", b"\x80"
MOST_OPCODES = 500_000
"""Looked at in one pickle; a state dict of 2,000 tensors has 60,000."""
MOST_PICKLE_BYTES = 100_000_000
"""What the pickle in an archive may unpack to; a state dict of 2,000 tensors has 0.3 MB."""
LEGACY_PICKLES = 5  # torch's older format: magic number, protocol, system, the object, its storages' keys; then bytes
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
    MemoryError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
)


def unpickle(path: Path) -> Any:
    """What a file of torch.save holds, with its tensors on the CPU; raises CheckpointError instead of running code.

    Files of the zip format (torch 1.6 and later) are mapped, not read: a tensor's pages load when they are used. Those
    whose members someone compressed are read whole.
    """
    zipped = _require_pickle(path) == ZIP
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Detected pickle protocol")  # the outcome is judged, not the protocol
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped and not _compressed(path))
    except _DAMAGE as error:
        _refuse_code(path, zipped)
        raise CheckpointError(
            f"{path} cannot be read: expected a whole torch.save file, got {_first_sentence(error)}; "
            "fix: download it again, and compare its size with the publisher's"
        ) from error


def _compressed(path: Path) -> bool:
    """Whether any member is; then all must match their checksums, which torch.load does not compare. Raises BadZipFile
    for a pickle that unpacks to more than MOST_PICKLE_BYTES."""
    with zipfile.ZipFile(path) as archive:
        largest = max(
            (member.file_size for member in archive.infolist() if member.filename.endswith(".pkl")), default=0
        )
        if largest > MOST_PICKLE_BYTES:
            raise zipfile.BadZipFile(f"a pickle of {largest / 1e6:.0f} MB, where tensors lie beside one")
        compressed = any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())
        damaged = archive.testzip() if compressed else None
    if damaged is not None:
        raise zipfile.BadZipFile(f"a damaged {damaged}")
    return compressed


def _refuse_code(path: Path, zipped: bool) -> None:
    wanted = sorted({name for name in _named_globals(path, zipped) if not _HARMLESS.fullmatch(name)})
    if wanted:
        raise CheckpointError(
            f"{path} refused: expected tensors only, got a pickle that wants to run {', '.join(wanted)}; "
            "fix: convert the file to safetensors where its source is trusted"
        )


def _require_pickle(path: Path) -> bytes:
    """The magic number of the torch.save format the file is in; CheckpointError, with its looks, for any other."""
    with path.open("rb") as file:
        head = file.read(64)
    magic = next((each for each in (ZIP, PROTOCOL) if head.startswith(each)), None)
    if magic is not None:
        return magic
    looks = f"a file that begins with {head[:16]!r}" if head else "an empty file"
    if head.startswith(b"version https://git-lfs"):
        looks = "a Git LFS pointer (run `git lfs pull`)"
    elif head.lstrip()[:1] == b"<":
        looks = "a web page"
    _refuse_code(path, zipped=False)
    raise CheckpointError(
        f"{path} cannot be read: expected a torch.save file, got {looks}; fix: download the checkpoint itself again"
    )


def _named_globals(path: Path, zipped: bool) -> Iterator[str]:
    """Dotted names that the file's pickles import, found by reading their opcodes, never by following them."""
    try:
        if not zipped:
            with path.open("rb") as file:
                yield from _globals_of(file)
            return
        with zipfile.ZipFile(path) as archive:
            for entry in archive.namelist():
                if entry.endswith(".pkl"):
                    with archive.open(entry) as packed:
                        yield from _globals_of(packed)
    except _DAMAGE:  # the reading ends where the damage begins
        return


def _globals_of(file: IO[bytes]) -> Iterator[str]:
    strings: list[str] = []
    memo: dict[int, str] = {}
    kept = 0
    for _ in range(LEGACY_PICKLES):
        for opcode, argument, _ in islice(pickletools.genops(file), MOST_OPCODES):
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


def _first_sentence(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return re.split(r"\n|\. ", text, maxsplit=1)[0][:200]
