"""What every contestant is asked to draw."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Case:
    """A model at a size. `warm` steps are not timed, `steps` behind them are; a whole picture takes `picture_steps`.
    Every contestant gets `rounds` turns, each in a process of its own."""

    name: str
    model: str
    height: int
    width: int
    prompt: str
    guidance: float
    warm: int
    steps: int
    rounds: int
    latent: int
    picture_steps: int = 20
    seed: int = 3

    @property
    def label(self) -> str:
        """What its answers are kept under: runs of other counts of steps draw other pictures."""
        return f"{self.name}, {self.steps} steps timed"

    @property
    def noise_shape(self) -> tuple[int, int, int, int]:
        """The start noise's, with as many pixels a latent as the model has."""
        return 1, 4, self.height // self.latent, self.width // self.latent


# Random weights know no words. These letters have the same numbers in CLIP's own vocabulary, which one peer carries in
# its source, as in the vocabulary of bytes that the random model comes with.
LETTERS = "a b c d e"
CASES = {
    case.name: case
    for case in (
        Case("emoji-64", "emoji", 64, 64, "a red apple on white", 4.0, warm=20, steps=20, rounds=3, latent=4),
        Case("sd15-256", "sd15", 256, 256, LETTERS, 7.5, warm=1, steps=3, rounds=1, latent=8),
        Case("sd15-512", "sd15", 512, 512, LETTERS, 7.5, warm=1, steps=3, rounds=1, latent=8),
    )
}
