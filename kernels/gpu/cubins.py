"""Compiled kernels as data: what a launch must know about each, in a folder with an index or in one run of bytes."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import KernelError

INDEX = "index.json"
TARGETS = ("sm_80", "sm_86", "sm_87", "sm_89", "sm_90", "sm_120")
HEAD_WIDTHS = (40, 64, 80, 160)
"""Those of the supported systems."""


@dataclass(frozen=True, slots=True)
class Cubin:
    """One pass, compiled for one target (sm_89), dtype (float16, bfloat16, float32) and head width.

    `arguments` are (name, Triton type) in launch order; two pointers follow that the kernel never reads. A program
    takes `rows` queries; `shared` is in bytes. `source` is the digest of everything that the machine code comes from.
    """

    kernel: str
    target: str
    dtype: str
    head_width: int
    symbol: str
    arguments: tuple[tuple[str, str], ...]
    rows: int
    columns: int
    warps: int
    shared: int
    source: str
    sha256: str
    image: bytes = field(repr=False)

    @property
    def stem(self) -> str:
        """The name of its files, without the suffix."""
        return f"{self.kernel}-{self.dtype}-{self.head_width}-{self.target}"

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability of its target, (8, 9) for sm_89."""
        return divmod(int(self.target.removeprefix("sm_")), 10)


def write_index(folder: Path, cubins: Iterable[Cubin]) -> None:
    """Writes the index of cubins whose images are in the folder already, as `stem`.cubin."""
    unfinished = folder / f"{INDEX}.part"
    unfinished.write_text(json.dumps([_record(cubin) for cubin in cubins], indent=1) + "\n", encoding="utf-8")
    unfinished.replace(folder / INDEX)


def read_cubins(folder: Path) -> tuple[Cubin, ...]:
    """Everything in the index. Raises KernelError where a file is missing or is not what the index says."""
    if not (folder / INDEX).is_file():
        raise KernelError(f"{folder}: expected {INDEX}, found none; make it with `python -m x2i.kernels.build --out`")
    cubins, problems = _checked(folder)
    if problems:
        raise KernelError(*problems)
    return cubins


def read_undamaged_cubins(folder: Path) -> tuple[Cubin, ...]:
    """What is in the index and still as the index says; nothing where there is no index."""
    return _checked(folder)[0] if (folder / INDEX).is_file() else ()


def _checked(folder: Path) -> tuple[tuple[Cubin, ...], list[str]]:
    records = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    cubins, problems = [], []
    for record in records:
        file = folder / f"{record['kernel']}-{record['dtype']}-{record['head_width']}-{record['target']}.cubin"
        image = file.read_bytes() if file.is_file() else b""
        if hashlib.sha256(image).hexdigest() == record["sha256"]:
            cubins.append(_cubin(record, image))
        else:
            problems.append(f"{file}: missing, or its SHA-256 is not the index's; build the kernels again")
    return tuple(cubins), problems


def pack_cubins(cubins: Sequence[Cubin]) -> bytes:
    """All of them as bytes: the header's length in 8 bytes, little-endian, the header, the images one after another."""
    header = json.dumps([_record(cubin) | {"size": len(cubin.image)} for cubin in cubins]).encode()
    return b"".join([len(header).to_bytes(8, "little"), header, *(cubin.image for cubin in cubins)])


def unpack_cubins(packed: bytes) -> tuple[Cubin, ...]:
    """The inverse of `pack_cubins`. Raises KernelError where a kernel is not what the header says."""
    start = 8 + int.from_bytes(packed[:8], "little")
    cubins = []
    for record in json.loads(packed[8:start]):
        image = packed[start : start + record.pop("size")]
        start += len(image)
        if hashlib.sha256(image).hexdigest() != record["sha256"]:
            raise KernelError(
                f"the engine's {record['kernel']} for {record['target']} is damaged; build the engine again"
            )
        cubins.append(_cubin(record, image))
    return tuple(cubins)


def cubins_for_heads(cubins: Iterable[Cubin], op: str, dtype: str, head_width: int) -> tuple[Cubin, ...]:
    """Of an op's kernels those of one dtype and head width. Raises KernelError, with the op's name, when there are
    none."""
    cubins = tuple(cubins)
    if found := tuple(cubin for cubin in cubins if (cubin.dtype, cubin.head_width) == (dtype, head_width)):
        return found
    there = sorted({f"{cubin.dtype} {cubin.head_width}" for cubin in cubins})
    raise KernelError(
        f"{op}: expected kernels for {dtype} and heads of {head_width}, got {', '.join(there) or 'none'}; "
        f"add them with `python -m x2i.kernels.build --dtype {dtype} --head-width {head_width}`"
    )


def cubins_for_device(cubins: Iterable[Cubin], passes: Sequence[str], capability: tuple[int, int]) -> dict[str, Cubin]:
    """An op's passes for a device of this compute capability, by name; raises KernelError when one is missing.

    Machine code for sm_8x runs on 8.y with y >= x. From 9.0 on Triton writes architecture-specific code, which runs on
    its own architecture alone.
    """
    cubins = sorted(cubins, key=lambda cubin: cubin.capability)
    fitting = {
        cubin.kernel: cubin
        for cubin in cubins
        if cubin.capability == capability
        or (cubin.capability[0] == capability[0] == 8 and cubin.capability < capability)
    }
    if set(fitting) == set(passes):
        return fitting
    there = sorted({cubin.target for cubin in cubins})
    target = f"sm_{capability[0]}{capability[1]}"
    raise KernelError(f"expected kernels for {target}, got {', '.join(there) or 'none'}; build with --target {target}")


def _record(cubin: Cubin) -> dict[str, Any]:
    return {name: value for name, value in asdict(cubin).items() if name != "image"}


def _cubin(record: dict[str, Any], image: bytes) -> Cubin:
    arguments = tuple((name, kind) for name, kind in record.pop("arguments"))
    return Cubin(**record, arguments=arguments, image=image)
