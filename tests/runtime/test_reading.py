"""The one reader of files that others wrote: what is no regular file, too large, too deep or no number is refused in
one line, at once, and with nothing allocated."""

import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from x2i.runtime.bundle.digests import Digests
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.engines.estimates import past_builds
from x2i.runtime.engines.store import read_record
from x2i.runtime.errors import InputError
from x2i.runtime.files import cache, reading
from x2i.runtime.files.safetensors import read_safetensors
from x2i.runtime.media.tokenizer import Tokenizer
from x2i.runtime.profiling.record import read

Reader = Callable[[Path], Any]
READERS: dict[str, Reader] = {
    "json": lambda path: reading.read_json_file(path, str(path), "a file"),
    "record": read_record,
    "profile": read,
    "tokenizer": lambda path: Tokenizer(path, 8, 0),
    "array": lambda path: reading.read_array(path, "an array"),
    "safetensors": lambda path: read_safetensors(path, str(path), "a file"),
}
CACHES: dict[str, Reader] = {
    "digests": lambda path: Digests(path)([]),
    "builds": past_builds,
    "any": cache.remembered,
}


def place(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "given"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere")
    elif kind == "huge":
        with path.open("wb") as stream:
            stream.truncate(10 * reading.ARRAY_BYTES)
    else:
        path.write_bytes(BYTES[kind])
    return path


BYTES = {
    "empty": b"",
    "deep": b"[" * 100_000,
    "deep objects": b'{"a":' * 100_000,
    "bytes": b"\xff\xfe\x00",
    "nan": b'{"seconds": NaN}',
    "infinite": b'{"seconds": 1e999}',
    "digits": b'{"bytes": ' + b"9" * 5000 + b"}",
    "twice": b'{"bytes": 1, "bytes": 2}',
    "surrogate": b'{"graph": "\\ud800"}',
    "null": b"null",
}
KINDS = [*BYTES, "pipe", "endless", "folder", "dangling", "huge"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_it_is_refused_in_one_line(reader: str, kind: str, tmp_path: Path) -> None:
    if (reader, kind) == ("json", "null"):
        return
    with pytest.raises(InputError) as refused:
        READERS[reader](place(tmp_path, kind))
    assert all(line.isprintable() and len(line) < 1000 for line in str(refused.value).split("\n"))
    assert "Errno" not in str(refused.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", CACHES)
def test_a_damaged_cache_is_forgotten(name: str, kind: str, tmp_path: Path) -> None:
    assert not CACHES[name](place(tmp_path, kind))


def test_a_damaged_cache_is_written_anew(tmp_path: Path) -> None:
    for kind in ("pipe", "deep"):
        path = place(tmp_path, kind)
        cache.remember(path, {"a": 1})
        assert path.is_file() and cache.remembered(path) == {"a": 1}
        path.unlink()
        assert not list(tmp_path.iterdir()), "a cache's staging folder stays"


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in ("empty", "folder", "dangling")])
def test_a_manifest_is_read_so_too(kind: str, tmp_path: Path) -> None:
    place(tmp_path, kind).rename(tmp_path / "manifest.json")
    with pytest.raises(InputError):
        open_bundle(tmp_path)


def test_depth_ends_where_it_says() -> None:
    """Whatever the depth of Python's own stack."""
    levels = reading.JSON_LEVELS
    assert reading.parse_json("[" * levels + "]" * levels, "text")
    with pytest.raises(InputError, match=f"at most {levels} levels"):
        reading.parse_json("[" * (levels + 1) + "]" * (levels + 1), "text")
    assert reading.parse_json(json.dumps({"é": [2**63 - 1, -(2**63), 1.5e308, True, None]}), "text")


def header(shape: str, descr: str = "'<f4'") -> bytes:
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "content",
    [
        header("(4398046511104,)"),
        header("(2, 3)") + b"\0" * 23,
        header("(2, 3)") + b"\0" * 25,
        header("(-1, 3)"),
        header("(" * 500),
        header("(__import__('os').getcwd(),)"),
        header("(1,)", "'|O'") + b"\0" * 8,
        header("{'a'"),
        b"\x93NUMPY\x09\x00\0\0",
        b"PK\x03\x04" + b"\0" * 100,
    ],
    ids=lambda content: repr(content[10:60]),
)
def test_an_array_is_what_its_header_says(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "given").write_bytes(content)
    with pytest.raises(InputError, match=r"^.*: expected an array, got .*; write it with numpy\.save$"):
        READERS["array"](tmp_path / "given")


@pytest.mark.parametrize("array", [np.zeros((), np.float32), np.ones((2, 0, 3)), np.asfortranarray(np.eye(3)[:2])])
def test_a_good_array_is_read(array: np.ndarray, tmp_path: Path) -> None:
    np.save(tmp_path / "given.npy", array)
    assert np.array_equal(READERS["array"](tmp_path / "given.npy"), array)


def test_replacements_that_would_fill_the_memory(tmp_path: Path) -> None:
    from tests.runtime.toy import tokenizer_json

    data = json.loads(tokenizer_json())
    replacement = {"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 20}
    path = tmp_path / "tokenizer.json"
    for count, fits in ((1, True), (2, False), (40, False)):
        data["normalizer"] = {"type": "Sequence", "normalizers": [replacement] * count}
        path.write_text(json.dumps(data), "utf-8")
        if fits:
            Tokenizer(path, 8, 0)(["e" * 10])
        else:
            with pytest.raises(InputError, match="at most 64 times as long"):
                Tokenizer(path, 8, 0)


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1")


@pytest.mark.parametrize(
    "content",
    [
        header("{'descr': __import__('os').system('touch ran'), 'shape': (1,), }"),
        header("(" * 9000),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (1048576, 1048576), }"),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"),
        b"not an array",
        b"",
    ],
)
def test_an_archive_is_read_as_its_arrays_are(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "given.npz"
    np.savez(path, good=np.ones(3, np.float32))
    with zipfile.ZipFile(path, "a") as packed:
        packed.writestr("bad.npy", content)
    with pytest.raises(InputError, match=r"given.npz: expected draws, got in bad.npy .*; write it with numpy.savez"):
        reading.read_arrays(path, "draws")


def test_an_archive_that_is_packed_in_an_unknown_way_is_told(tmp_path: Path) -> None:
    path = tmp_path / "given.npz"
    np.savez(path, good=np.ones(3, np.float32))
    content = path.read_bytes()
    assert reading.read_arrays(path, "draws")["good"].tolist() == [1, 1, 1]
    # The way of packing, in the file's own head and in the list at the end; the flag of a cipher.
    for change in ({8: 77}, {6: 1}):
        changed = bytearray(content)
        for place, value in change.items():
            changed[place] = changed[content.index(b"PK\x01\x02") + place + 2] = value
        path.write_bytes(changed)
        with pytest.raises(InputError, match="expected draws, got"):
            reading.read_arrays(path, "draws")
