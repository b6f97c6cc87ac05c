"""The NVIDIA driver and its GPUs, asked through the driver's own library.

By hand, through ctypes: NVML and its Python package are not on Jetson, and `x2i doctor` must see a GPU without extras.
"""

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

from ..errors import InputError

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_NAME_BYTES = 128
# Numbers of the driver API's attributes.
_MAJOR, _MINOR = 75, 76


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU's name, compute capability such as (8, 9), and memory in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int

    @property
    def target(self) -> str:
        """Its architecture as compilers name it: sm_89."""
        major, minor = self.capability
        return f"sm_{major}{minor}"


@dataclass(frozen=True, slots=True)
class Driver:
    """The newest CUDA that the driver serves, such as (13, 0), and its GPUs in its own order."""

    cuda: tuple[int, int]
    gpus: tuple[Gpu, ...]


@cache
def driver() -> Driver:
    """The driver that is installed; raises InputError where there is none, or none of its GPUs can be used."""
    library = _library()
    if (status := library.cuInit(0)) != 0:
        raise InputError(
            f"the NVIDIA driver's {LIBRARY} finds no GPU that it can use (cuInit gave {status}); look at nvidia-smi, "
            "and give a container its GPUs, as with --gpus all"
        )
    version = _integer(library, "cuDriverGetVersion")
    count = _integer(library, "cuDeviceGetCount")
    return Driver((version // 1000, version % 1000 // 10), tuple(_gpu(library, number) for number in range(count)))


def first_gpu() -> Gpu:
    """The GPU that sessions run on: the first that CUDA_VISIBLE_DEVICES lets through. Raises InputError for none."""
    found = driver().gpus
    if not found:
        raise InputError("the NVIDIA driver shows no GPU; look at nvidia-smi and at CUDA_VISIBLE_DEVICES")
    return found[0]


def gpu_problem() -> str | None:
    """Why no GPU can be used here, in one line with the fix; None when one can."""
    try:
        first_gpu()
    except InputError as error:
        return str(error)
    return None


def _library() -> Any:
    try:
        return ctypes.CDLL(LIBRARY)
    except OSError as error:
        raise InputError(
            f"no NVIDIA driver: {LIBRARY} is not there; install the driver of this machine's GPU"
        ) from error


def _gpu(library: Any, number: int) -> Gpu:
    device = _integer(library, "cuDeviceGet", number)
    name, memory = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_size_t()
    _check("cuDeviceGetName", library.cuDeviceGetName(name, _NAME_BYTES, device))
    _check("cuDeviceTotalMem", library.cuDeviceTotalMem_v2(ctypes.byref(memory), device))
    major, minor = (_integer(library, "cuDeviceGetAttribute", attribute, device) for attribute in (_MAJOR, _MINOR))
    return Gpu(name.value.decode(errors="replace"), (major, minor), memory.value)


def _integer(library: Any, call: str, *arguments: int) -> int:
    result = ctypes.c_int()
    _check(call, getattr(library, call)(ctypes.byref(result), *arguments))
    return result.value


def _check(call: str, status: int) -> None:
    if status != 0:
        raise InputError(f"the NVIDIA driver refused {call} with status {status}; look at nvidia-smi")
