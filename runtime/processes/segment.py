"""Which graph predicts, from which timestep on."""

from collections.abc import Sequence
from dataclasses import dataclass

from ..bundle.records import Finite
from ..inputs.delay import Delay

MOST_SEGMENTS = 256


@dataclass(frozen=True, slots=True)
class Segment:
    """The graph in charge from `from_timestep` downwards, until the next segment's; `context` maps inputs to slots.

    With `below` that timestep itself is still the segment's before, as experts have it whose ranges are half open. What
    else it takes and gives, its process says. With `delay` it waits longer, and the segment before it stays in charge.
    """

    graph: str
    from_timestep: Finite
    context: dict[str, str]
    delay: Delay | None = None
    below: bool = False

    def begun(self, timestep: float) -> bool:
        """Whether it is in charge at a timestep, or one behind it is."""
        return timestep < self.from_timestep if self.below else timestep <= self.from_timestep


def segment_at(segments: Sequence[Segment], timestep: float, delayed: bool) -> int:
    """The number of the last segment that has begun; a delayed one has not while `delayed`."""
    return max(
        number
        for number, segment in enumerate(segments)
        if segment.begun(timestep) and not (delayed and segment.delay is not None)
    )


def segment_problems(segments: Sequence[Segment], first_timestep: float) -> list[str]:
    """What does not fit together among the segments of a process that begins at a timestep."""
    if not 1 <= len(segments) <= MOST_SEGMENTS:
        return [f"plan: expected 1 to {MOST_SEGMENTS} denoising segments, got {len(segments)}"]
    found = []
    if segments[0].delay is not None:
        found.append("plan: expected a first segment that serves the first call, got one with a delay")
    starts = [segment.from_timestep for segment in segments]
    if starts != sorted(starts, reverse=True):
        found.append(f"plan: segments must start at falling timesteps, got {starts}")
    if not segments[0].begun(first_timestep):
        found.append(f"plan: expected a first segment that serves every timestep, got one from {starts[0]:g} on")
    if len({segment.delay for segment in segments} - {None}) > 1:
        found.append("plan: expected one delay at most, got several")
    return found
