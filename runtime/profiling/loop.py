"""What the loop takes beside its graphs: sampler, guidance, batches put together."""

from .record import Profile


def loop_seconds(profile: Profile) -> tuple[float, float]:
    """Seconds of the middle run's steps in which no graph was called, and of the steps altogether."""
    steps = [event for event in profile.events if event.track == "stages" and event.name.startswith("step ")]
    graphs = [event for event in profile.events if event.track == "graphs"]
    inside = [call for call in graphs if any(step.start <= call.start and call.end <= step.end for step in steps)]
    whole = sum(step.end - step.start for step in steps)
    return whole - sum(call.end - call.start for call in inside), whole
