"""What the kernels raise when their caller or the machine is at fault."""


class KernelError(ValueError):
    """One or more problems, each a line: what was expected, what came, and the fix."""

    def __init__(self, *problems: str):
        self.problems = problems
        super().__init__("\n".join(problems))


class KernelMissing(KernelError, LookupError):
    """No compiled kernel is there, which is no fault."""
