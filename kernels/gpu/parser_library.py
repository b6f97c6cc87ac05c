"""Lets TensorRT-RTX's ONNX parser find its own library, without which the first plugin node ends the process.

The parser opens `libtensorrt_rtx.so`, but the wheel has `libtensorrt_rtx.so.1` alone, and the parser does not survive
that. The dynamic loader is content with any loaded library of the wanted name, so this loads an empty one of that name
that depends on the real one. Site-packages stay as they are, and no compiler is needed.
"""

import ctypes
import struct
import tempfile
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from ..errors import KernelError

WANTED, PRESENT = "libtensorrt_rtx.so", "libtensorrt_rtx.so.1"
# What the parser takes from the library.
_SYMBOL = "getPrivateApi_INTERNAL"
_HEADER, _SEGMENT, _DYNAMIC = struct.Struct("<16sHHIQQQIHHHHHH"), struct.Struct("<IIQQQQQQ"), struct.Struct("<QQ")
_DT_NULL, _DT_NEEDED, _DT_STRTAB, _DT_SYMTAB, _DT_STRSZ, _DT_SYMENT, _DT_SONAME = 0, 1, 5, 6, 10, 11, 14
_PT_LOAD, _PT_DYNAMIC, _PT_GNU_STACK = 1, 2, 0x6474E551
_READ, _READ_WRITE = 4, 6


def let_parser_find_library(tensorrt: ModuleType) -> None:
    """Loads a library of the name that the parser of the module `tensorrt_rtx` asks for, where there is none.

    Raises KernelError where the parser would still not find it.
    """
    folder = _library_folder()
    if (folder / WANTED).exists() or _opens():
        return
    with tempfile.TemporaryDirectory() as temporary:
        stub = Path(temporary) / WANTED
        stub.write_bytes(stub_library(WANTED, PRESENT, machine=_machine(folder / PRESENT)))
        try:
            ctypes.CDLL(str(stub), mode=ctypes.RTLD_GLOBAL)
        except OSError as error:
            raise KernelError(_advice(folder, tensorrt, str(error))) from error
    if not _opens():
        raise KernelError(_advice(folder, tensorrt, f"{WANTED} still cannot be opened"))


def stub_library(name: str, needed: str, machine: int) -> bytes:
    """A 64-bit little-endian ELF shared library without code, called `name`, that depends on `needed`.

    `machine` is ELF's number of the processor, 62 for x86-64. Source: System V ABI, "Object Files".
    """
    strings = b"\0" + name.encode() + b"\0" + needed.encode() + b"\0"
    symbols = bytes(24)
    dynamic_at = _HEADER.size + 3 * _SEGMENT.size
    entries = 7 * _DYNAMIC.size
    symbols_at, strings_at = dynamic_at + entries, dynamic_at + entries + len(symbols)
    dynamic = b"".join(
        _DYNAMIC.pack(tag, value)
        for tag, value in (
            (_DT_SONAME, 1),
            (_DT_NEEDED, 2 + len(name)),
            (_DT_STRTAB, strings_at),
            (_DT_STRSZ, len(strings)),
            (_DT_SYMTAB, symbols_at),
            (_DT_SYMENT, len(symbols)),
            (_DT_NULL, 0),
        )
    )
    size = strings_at + len(strings)
    identity = b"\x7fELF" + bytes([2, 1, 1])
    header = _HEADER.pack(identity, 3, machine, 1, 0, _HEADER.size, 0, 0, _HEADER.size, _SEGMENT.size, 3, 64, 0, 0)
    segments = (
        _SEGMENT.pack(_PT_LOAD, _READ_WRITE, 0, 0, 0, size, size, 0x10000),
        _SEGMENT.pack(_PT_DYNAMIC, _READ_WRITE, dynamic_at, dynamic_at, dynamic_at, entries, entries, 8),
        _SEGMENT.pack(_PT_GNU_STACK, _READ_WRITE, 0, 0, 0, 0, 0, 16),
    )
    return b"".join([header, *segments, dynamic, symbols, strings])


def _library_folder() -> Path:
    found = find_spec("tensorrt_rtx_libs")
    return Path(found.origin).parent if found and found.origin else Path("/nowhere")


def _machine(library: Path) -> int:
    """ELF's number of the processor that a library is for."""
    with library.open("rb") as file:
        return int.from_bytes(file.read(20)[18:], "little")


def _opens() -> bool:
    try:
        return hasattr(ctypes.CDLL(WANTED), _SYMBOL)
    except OSError:
        return False


def _advice(folder: Path, tensorrt: ModuleType, problem: str) -> str:
    return (
        f"TensorRT-RTX {tensorrt.__version__}: expected its parser to find {WANTED}, but {problem}; make the link "
        f"(`ln -s {PRESENT} {folder / WANTED}`), or build without the plugin: the node's function body is used then"
    )
