"""Memory that was freed goes back to the system, and an engine's file counts for no process's data."""

import gc
import mmap
import sys
from pathlib import Path

import numpy as np
import pytest
from x2i.runtime.files.mapped import map_file, release_pages

from tests.processes import run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
LEFT = """
import ctypes
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
def resident():
    return int(open("/proc/self/status").read().split("RssAnon:")[1].split()[0]) / 1000
if {singly}:
    from x2i.runtime.sessions import cache
    cache.map_blocks_singly()
c.free(c.malloc(30 << 20))
start, blocks = resident(), []
for _ in range(20):
    blocks.append(c.malloc(4 << 20))
    ctypes.memset(blocks[-1], 1, 4 << 20)
    c.malloc(1000)
assert resident() - start > 70
for block in blocks:
    c.free(block)
print(resident() - start)
"""


def left(tmp_path: Path, singly: bool) -> float:
    """Megabytes that stay with a process which freed 84 of them, small blocks lying in between."""
    return float(run(sys.executable, "-c", LEFT.format(singly=singly), cwd=tmp_path).stdout)


@pytest.mark.skipif("glibc" not in __import__("platform").libc_ver(), reason="another C library")
def test_what_is_freed_goes_back(tmp_path: Path) -> None:
    assert left(tmp_path, singly=True) < 10
    assert left(tmp_path, singly=False) > 40, "this C library needs no telling"


def test_a_file_is_mapped_for_reading_alone(tmp_path: Path) -> None:
    content = np.random.default_rng(0).integers(0, 256, 3 * mmap.PAGESIZE + 7, np.uint8)
    path = tmp_path / "some.engine"
    path.write_bytes(content.tobytes())
    mapped = map_file(path).array()
    (line,) = [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
    assert line.split()[1] == "r--s", line
    assert mapped.flags.writeable, "OpenVINO takes no other"
    assert np.array_equal(mapped, content)
    release_pages(path)
    assert np.array_equal(mapped, content)
    part = np.ndarray(7, np.int16, mapped, 5)
    del mapped
    gc.collect()
    assert np.array_equal(part, content[5:19].view(np.int16)), "a view keeps the file mapped"
    del part
    gc.collect()
    assert not [line for line in Path("/proc/self/maps").read_text().splitlines() if line.endswith(str(path))]
