"""Samples as a caller gives them: the beginning of a sound, at its own rate, with what is wrong with them told."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..errors import InputError, reason
from ..files.reading import open_given

if TYPE_CHECKING:
    from soundfile import LibsndfileError, SoundFile


RATES = (1_000, 768_000)
"""Hz, least and most: below, no sound is left; above, no recorder goes, and a header that says so is a broken one."""
MAX_CHANNELS = 8
"""7.1 surround."""
EXTRA_SECONDS = 0.5
"""Seconds taken beyond those that are heard, so that a resampler ends on samples and not on an edge."""


@dataclass(frozen=True, slots=True)
class Recording:
    """`samples` float32 [n, channels], about -1 to 1, at `rate` Hz; `seconds` is how long the whole sound is, of which
    they may be the beginning; `notes` are warnings, one line each."""

    samples: np.ndarray
    rate: int
    seconds: float
    notes: tuple[str, ...] = ()


def wanted_samples(seconds: float, rate: int) -> int:
    """How many samples are taken for so many seconds that are heard."""
    return ceil((seconds + EXTRA_SECONDS) * rate)


def record_array(samples: np.ndarray, rate: Any, seconds: float, where: str) -> Recording:
    """The beginning of samples [n] or [n, channels], float about -1 to 1, or int16 or int32; else InputError."""
    # A masked array's or a matrix' own rules are not followed.
    values = np.asarray(samples)
    floats = np.issubdtype(values.dtype, np.floating)
    if values.ndim not in (1, 2) or not (floats or values.dtype in (np.int16, np.int32)):
        raise InputError(
            f"{where}: expected samples [n] or [n, channels], float from -1 to 1 or int16, "
            f"got {values.dtype} {list(values.shape)}; convert the array"
        )
    hertz = _whole(rate, where)
    values = values[:, None] if values.ndim == 1 else values
    if len(values) == 0:
        raise InputError(f"{where}: expected a sound, got an array without samples; give another")
    turned = len(values) <= MAX_CHANNELS < values.shape[1]
    check_kind(hertz, values.shape[1], where, "turn the array: [n, channels]" if turned else "mix it down to two")
    scale = 1.0 if floats else 2.0 ** (1 - 8 * values.dtype.itemsize)
    # What is too large for float32 becomes infinite, and is refused as such.
    with np.errstate(over="ignore"):
        taken = (values[: wanted_samples(seconds, hertz)] * np.float64(scale)).astype(np.float32)
    return Recording(taken, hertz, len(values) / hertz)


def check_kind(rate: int, channels: int, where: str, fix: str = "mix it down to two") -> None:
    """Raises InputError for a rate outside RATES, or for no channels or more than MAX_CHANNELS."""
    if not RATES[0] <= rate <= RATES[1]:
        raise InputError(
            f"{where}: expected a rate of {RATES[0]} to {RATES[1]} Hz, got {rate}; correct it, or record it again"
        )
    if not 1 <= channels <= MAX_CHANNELS:
        raise InputError(f"{where}: expected 1 to {MAX_CHANNELS} channels, got {channels}; {fix}")


def _whole(rate: Any, where: str) -> int:
    whole = isinstance(rate, Integral) or (isinstance(rate, Real) and float(rate).is_integer())
    if not whole or isinstance(rate, bool):
        raise InputError(
            f"{where}: expected a rate in Hz, a whole number such as 44100, got {rate!r}; give the samples' own"
        )
    return int(rate)


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


SoundSource = str | Path | tuple[np.ndarray, int]
BLOCK = 4096
"""Samples read at once: what a damaged file still holds is known to within a block."""
ENDLESS = 2**62
"""From here on libsndfile's length is none: that of a FLAC written into a pipe, say."""
# libsndfile's error codes.
UNRECOGNISED, NO_SUCH_FILE = 1, 7


@contextmanager
def require_sound(package: str) -> Iterator[None]:
    """Around the import of a library that reads or resamples sounds: InputError with the fix where it is absent."""
    try:
        yield
    # soundfile raises OSError where the C library under it is absent.
    except (ImportError, OSError) as error:
        raise InputError(f"sound needs {package}: pip install 'x2i-edge[sound]'") from error


def read_sound(source: SoundSource, seconds: float, name: str = "sound") -> Recording:
    """The first `seconds` of a sound and MARGIN more; no more of the file than that is read.

    `source` is a file, in whatever format libsndfile knows, or (samples, rate) as soundfile gives them: [n] or
    [n, channels], float about -1 to 1, or int16 or int32. Where a file ends before what its header promises, what is
    there is taken, with a note; an MP3 without a length in its header promises nothing, nor does a file that was
    written into a pipe. `name` is the option's name for messages. Raises InputError, one line, for whatever is no such
    sound, has more than MAX_CHANNELS or a rate outside RATES.
    """
    if isinstance(source, str | os.PathLike):
        return _from_file(Path(source), seconds, f"{name} {source}")
    if isinstance(source, tuple) and len(source) == 2 and isinstance(source[0], np.ndarray):
        return record_array(*source, seconds, name)
    raise InputError(
        f"{name}: expected a file name or (samples, rate), samples as an array, got {_describe(source)}; give either"
    )


def _describe(source: Any) -> str:
    if isinstance(source, tuple):
        return f"({', '.join(type(item).__name__ for item in source)})"
    return "samples without their rate" if isinstance(source, np.ndarray) else type(source).__name__


def _from_file(path: Path, seconds: float, where: str) -> Recording:
    with require_sound("soundfile"):
        import soundfile
    with open_given(path, where, "a sound file") as stream:
        if not os.fstat(stream.fileno()).st_size:
            raise _without_samples(where)
        try:
            # By its number: soundfile would take the suffix .raw for a format without a header.
            file = soundfile.SoundFile(stream.fileno(), closefd=False)
        except soundfile.LibsndfileError as error:
            raise _not_read(error, where) from error
        with file:
            return _recorded(file, stream, seconds, where)


def _not_read(error: "LibsndfileError", where: str) -> InputError:
    import soundfile

    fix = "convert it, for example with ffmpeg -i IN out.wav"
    if error.code == UNRECOGNISED:
        listed = ", ".join(sorted(set(soundfile.available_formats()) - {"RAW"}))
        return InputError(f"{where}: expected a sound ({listed}), got none of these; {fix}")
    # The file was opened here, so that a claim that there is none tells nothing.
    why = error.error_string if error.code != NO_SUCH_FILE else "cut off near its beginning"
    known = f"libsndfile {soundfile.__libsndfile_version__}"
    return InputError(f"{where}: expected a whole sound in a codec that {known} reads, got {why or 'another'}; {fix}")


def _recorded(file: "SoundFile", stream: BinaryIO, seconds: float, where: str) -> Recording:
    check_kind(file.samplerate, file.channels, where)
    promised = file.frames if file.frames < ENDLESS else None
    wanted = wanted_samples(seconds, file.samplerate)
    wanted = wanted if promised is None else min(wanted, promised)
    blocks, damage = _blocks(file, wanted)
    got = sum(map(len, blocks))
    if got == 0:
        raise _without_samples(where, damage)
    heard = got >= ceil(seconds * file.samplerate)
    short = promised is not None and (bool(damage) or got < wanted)
    whole = heard or not (short or cut_short(file.format, file.extra_info, stream))
    notes = () if whole else (_cut_note(got / file.samplerate, where),)
    total = promised if promised is not None and got == wanted else got
    return Recording(np.concatenate(blocks), file.samplerate, total / file.samplerate, notes)


def _blocks(file: "SoundFile", wanted: int) -> tuple[list[np.ndarray], str]:
    """At most `wanted` samples, and what stopped the decoder before."""
    from soundfile import LibsndfileError

    blocks: list[np.ndarray] = []
    left = wanted
    try:
        while left > 0 and len(block := file.read(min(left, BLOCK), dtype="float32", always_2d=True)):
            blocks.append(block)
            left -= len(block)
    except LibsndfileError as error:
        return blocks, reason(error)
    return blocks, ""


def _cut_note(seconds: float, where: str) -> str:
    return f"{where}: the file is damaged or cut off; the {seconds:.2f} s that could be read are heard"


def _without_samples(where: str, damage: str = "") -> InputError:
    why = f" ({damage})" if damage else ""
    return InputError(f"{where}: expected a sound, got a file without samples{why}; give another")
