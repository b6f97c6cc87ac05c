"""A call on its way to another machine, and what comes back: the files that came with it travel as bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...inputs.registry import run_options
from ..jobs.job import Call

Happened = tuple[str, dict[str, Any]]
"""What a replica tells of a call, as an event's name and data: begun, step and preview, then drawn or refused."""


@dataclass(frozen=True, slots=True)
class SentCall:
    """A call without its files, and those by the names of their options."""

    call: Call
    files: Mapping[str, tuple[bytes, ...]]

    @classmethod
    def of(cls, asked: Call) -> "SentCall":
        """Reads the files."""
        known = run_options()
        files = {
            name: tuple(Path(path).read_bytes() for path in (value if isinstance(value, list) else [value]))
            for name, value in asked.options.items()
            if known[name].is_file
        }
        call = Call(
            bundle=asked.bundle,
            prompt=asked.prompt,
            options={name: value for name, value in asked.options.items() if name not in files},
            previews=asked.previews,
            picture_format=asked.picture_format,
            notes=asked.notes,
        )
        return cls(call, files)

    def unpacked(self, folder: Path) -> Call:
        """The call, with its files written into a folder under the names that the server gave them."""
        known, options = run_options(), dict(self.call.options)
        for name, blobs in self.files.items():
            paths = [folder / f"{name}-{number}" for number in range(1, len(blobs) + 1)]
            for path, blob in zip(paths, blobs, strict=True):
                path.write_bytes(blob)
            options[name] = paths if known[name].several else paths[0]
        return replace(self.call, options=options)
