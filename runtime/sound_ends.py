"""Whether a sound file ends before what it promises."""

import os
import re
from typing import BinaryIO

# How libsndfile's log words that a header promises another number of bytes than the file holds.
PROMISED = re.compile(r"(\d+) \(should be (\d+)\)")
UNKNOWN_BYTES = 0x7FFFF000
"""From here on a header promises what nobody knew when it was written, into a pipe: programs put in various maxima."""

# Ogg's pages (RFC 3533): their beginning, the place and bit that mark the last one, and its table of lengths.
PAGE, MAX_PAGE, FLAGS, LAST, TABLE = b"OggS", 65_307, 5, 4, 27


def cut_short(form: str, log: str, stream: BinaryIO) -> bool:
    """True where header or stream say that there was more. `form` and `log` are libsndfile's, `stream` is the file.

    Of an MP3 nothing can be said here: what its header may tell, libsndfile counts.
    """
    if form == "OGG":
        stream.seek(-min(MAX_PAGE, stream.seek(0, os.SEEK_END)), os.SEEK_END)
        return not _closed(stream.read())
    promises = ((int(promised), int(held)) for promised, held in PROMISED.findall(log))
    return any(held < promised < UNKNOWN_BYTES for promised, held in promises)


def _closed(end: bytes) -> bool:
    """Whether the last page is whole and says that it is the last."""
    page = end[end.rfind(PAGE) :]
    if not page.startswith(PAGE) or len(page) < TABLE:
        return False
    table = page[TABLE : TABLE + page[TABLE - 1]]
    return bool(page[FLAGS] & LAST) and len(page) >= TABLE + len(table) + sum(table)
