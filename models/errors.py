"""What the checkpoint readers raise when a file is not what they were promised."""


class CheckpointError(ValueError):
    """One or more problems of a checkpoint, each a line: what was expected, what came, and the fix."""

    def __init__(self, *problems: str):
        self.problems = problems
        super().__init__("\n".join(problems))
