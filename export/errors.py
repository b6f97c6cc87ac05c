"""What the exporter raises."""

from x2i.runtime.errors import ProblemsError


class PlanError(ProblemsError):
    """One or more problems of an export's options or parts, each a line: expected, got, the fix."""


class GateError(ProblemsError):
    """An exported graph is further from fp32 torch than its gate allows; nothing was written."""
