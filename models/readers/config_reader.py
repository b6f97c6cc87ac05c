"""Reads someone's configuration key by key and keeps a list of everything in it that is absent, odd or unknown."""

from collections.abc import Mapping
from typing import Any


class ConfigReader:
    """One section of a configuration. Every read notes its problem in `problems` and returns a harmless stand-in.

    `where` names the section in the problems, `model` whose settings are known here. Sections share the list of the
    configuration that they are in.
    """

    def __init__(self, values: Any, where: str, problems: list[str] | None = None, model: str = "Stable Diffusion v1"):
        self.problems: list[str] = [] if problems is None else problems
        self.where, self._model = where, model
        self._known: set[str] = set()
        self._values: Mapping[str, Any] = values if isinstance(values, Mapping) else {}
        if not isinstance(values, Mapping):
            self.note("a section of settings", type(values).__name__)

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def section(self, key: str) -> "ConfigReader":
        """The section under `key`; an empty one, with a problem, where there is none."""
        return ConfigReader(self.raw(key), f"{self.where}, {key}", self.problems, self._model)

    def raw(self, key: str) -> Any:
        """The value as it stands, None where it is absent; it is never a problem."""
        self._known.add(key)
        return self._values.get(key)

    def mapping(self, key: str) -> dict[str, Any]:
        """An optional section as a dict, whose settings are not checked; empty where it is absent."""
        value = self.raw(key)
        if value is None or isinstance(value, Mapping):
            return dict(value or {})
        self.note(f"{key} as a section of settings", value)
        return {}

    def count(self, key: str) -> int:
        """A positive whole number; 1, with a problem, for anything else."""
        value = self.raw(key)
        if _is_count(value):
            return value
        self.note(f"{key} as a positive whole number", value)
        return 1

    def counts(self, key: str) -> list[int]:
        """A list, not empty, of positive whole numbers; [1], with a problem, for anything else."""
        value = self.raw(key)
        if isinstance(value, list | tuple) and value and all(_is_count(item) for item in value):
            return list(value)
        self.note(f"{key} as a list of positive whole numbers", value)
        return [1]

    def number(self, key: str) -> float:
        """A positive number; 1.0, with a problem, for anything else."""
        value = self.raw(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
            return float(value)
        self.note(f"{key} as a positive number", value)
        return 1.0

    def only(self, key: str, *allowed: Any, absent: Any) -> Any:
        """The setting, which must be one of the allowed values; `absent` is what its absence means to its authors."""
        self._known.add(key)
        value = self._values.get(key, absent)
        if not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in allowed):
            self.note(f"{key} {' or '.join(repr(each) for each in allowed)}", value)
        return value

    def skip(self, *keys: str) -> None:
        """Settings that change nothing here: of training, of memory, of other files."""
        self._known.update(keys)

    def close(self) -> None:
        """Notes the keys that nothing read."""
        for key in sorted(set(self._values) - self._known, key=str):
            self.problems.append(
                f"{self.where}: expected settings of {self._model}'s classes, got unknown {key!r}; "
                "fix: remove it if it changes nothing, else this model is another"
            )

    def note(self, expected: str, got: Any) -> None:
        """Adds the problem of a setting that is another than expected."""
        problem = f"{self.where}: expected {expected}, got {got!r:.100}; fix: give the checkpoint's own settings"
        if problem not in self.problems:
            self.problems.append(problem)


MOST_COUNT = 2**20
"""Above it no setting is a number of channels, tokens, steps or layers; the largest vocabulary known has 250,002."""


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MOST_COUNT
