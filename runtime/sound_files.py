"""Sounds a caller gives, from a file or from memory, as samples; or one line that says why not."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .errors import InputError
from .given_files import open_given, reason
from .recording import Recording, check_kind, record_array, wanted_samples
from .sound_ends import cut_short

if TYPE_CHECKING:
    from soundfile import LibsndfileError, SoundFile

SoundSource = str | Path | tuple[np.ndarray, int]

BLOCK = 4096
"""Samples read at once: what a damaged file still holds is known to within a block."""

ENDLESS = 2**62
"""From here on libsndfile's length is none: that of a FLAC written into a pipe, say."""

# libsndfile's error codes.
UNRECOGNISED, NO_SUCH_FILE = 1, 7


@contextmanager
def needed(package: str) -> Iterator[None]:
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
    with needed("soundfile"):
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
