"""What the exporter raises."""


class PlanError(ValueError):
    """One or more problems of an export's options or parts, each a line: expected, got, the fix."""

    def __init__(self, *problems: str):
        self.problems = problems
        super().__init__("\n".join(problems))


class GateError(ValueError):
    """An exported graph is further from fp32 torch than its gate allows; nothing was written."""
