"""Failures that remain, each with its reason."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Known:
    """Inputs of a kind whose name and problem match these patterns fail, for a reason."""

    kind: str
    name: str
    problem: str
    reason: str

    def fits(self, name: str, problem: str) -> bool:
        """Whether a failure is this one."""
        return re.search(self.name, name) is not None and re.search(self.problem, problem) is not None


KNOWN: tuple[Known, ...] = ()
