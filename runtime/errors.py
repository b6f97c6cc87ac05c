"""What the runtime raises when its caller, a file or the machine is at fault."""


class InputError(ValueError):
    """One or more problems at the boundary, each a line: what was expected, what came, and the fix."""

    def __init__(self, *problems: str):
        self.problems = problems
        super().__init__("\n".join(problems))
