"""DDIM without added noise (eta 0), as the CompVis code under GlueGen runs it."""

from .ddim import along
from .sampler import Sampler
from .schedule import Schedule
from .spacing import compvis


def ddim_compvis(schedule: Schedule, steps: int) -> Sampler:
    """One model call a step; 30 steps asked of 1000 are 31. The last step ends at the alpha of timestep 0, never at 1.

    Raises InputError for a count whose first timestep is past the schedule's end (3, 9, 27 or 300 of 1000, say).
    """
    timesteps = compvis(schedule, steps)
    alphas = schedule.alphas_cumprod().tolist()
    visited = [alphas[timestep] for timestep in timesteps]
    return along(timesteps, visited, [*visited[1:], alphas[0]])
