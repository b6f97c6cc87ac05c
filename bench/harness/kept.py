"""Answers by name, kept in a file as they come, so that a second run goes on where the first stopped."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Facts = dict[str, Any]


class Kept:
    """What is in the file is not measured again, but for failures, which may have gone."""

    def __init__(self, path: Path):
        self._path = path
        self.facts = self._read()

    def forget(self, name: str) -> None:
        """Has the next call measure anew; the file keeps the old answer until then."""
        self.facts.pop(name, None)

    def __call__(self, name: str, measure: Callable[[], Facts]) -> Facts:
        """The answer of that name, measured now if it is missing or failed before."""
        if name not in self.facts or "failed" in self.facts[name]:
            measured = measure()
            # Others may have added theirs in the meantime.
            self.facts = self._read() | {name: measured}
            written = self._path.with_suffix(".partial")
            written.write_text(json.dumps(self.facts, indent=1) + "\n", encoding="utf-8")
            written.replace(self._path)
        return self.facts[name]

    def _read(self) -> dict[str, Facts]:
        return json.loads(self._path.read_text("utf-8")) if self._path.exists() else {}
