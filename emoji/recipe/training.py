"""One training stage that stops and goes on: all state in one file, progress counted in trained minutes."""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)
CHECKPOINT_SECONDS = 60.0
WARM_UP = 0.02


def device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def low_precision() -> AbstractContextManager[None]:
    """bfloat16 autocast on that device."""
    return torch.autocast(device().type, torch.bfloat16)


def averaged(module: Network, path: Path) -> Network:
    """`module` with the averaged weights of a stage's state file, in eval mode on the training device."""
    module.to(device()).load_state_dict(torch.load(path, map_location=device(), weights_only=True)["average"])
    return module.eval()


def learning_rate(progress: float, peak: float) -> float:
    """Cosine to 2 % of `peak` after a short linear warm-up; `progress` runs from 0 to 1."""
    warm = min(1.0, progress / WARM_UP + 0.02)
    return peak * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


@dataclass(slots=True)
class TrainingStage:
    """A module under training with its optimiser, moving average and clock, kept in the one file `path`."""

    module: nn.Module
    path: Path
    peak: float
    decay: float
    optimiser: torch.optim.Optimizer
    average: dict[str, torch.Tensor]
    steps: int = 0
    seconds: float = 0.0

    @classmethod
    def open(cls, module: nn.Module, path: Path, peak: float, decay: float = 0.999) -> "TrainingStage":
        """The stage as `path` left it, or a fresh one where there is no such file."""
        module.to(device())
        decayed = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
        plain = [p for p in module.parameters() if p.requires_grad and p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, lr=peak, betas=(0.9, 0.99), fused=device().type == "cuda")
        stage = cls(module, path, peak, decay, optimiser, {k: v.clone() for k, v in module.state_dict().items()})
        if path.exists():
            stage._restore(torch.load(path, map_location=device(), weights_only=True))
        return stage

    def _restore(self, state: dict) -> None:
        self.module.load_state_dict(state["module"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average, self.steps, self.seconds = state["average"], state["steps"], state["seconds"]

    def save(self) -> None:
        """Writes the stage's state to its file, whole or not at all."""
        state = {
            "module": self.module.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "steps": self.steps,
            "seconds": self.seconds,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.path)

    def run(self, minutes: float, loss_of: Callable[[int], torch.Tensor], steps: int | None = None) -> Iterator[float]:
        """Trains until `minutes` (or `steps`) in all are spent, yielding each loss; `loss_of` gets the step number."""
        saved = time.monotonic()
        while self.seconds < minutes * 60 and (steps is None or self.steps < steps):
            began = time.monotonic()
            yield self._step(min(1.0, self.seconds / (minutes * 60)), loss_of)
            self.seconds += time.monotonic() - began
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self.save()
                saved = time.monotonic()
        self.save()

    def _step(self, progress: float, loss_of: Callable[[int], torch.Tensor]) -> float:
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(progress, self.peak)
        loss = loss_of(self.steps)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimiser.step()
        self.steps += 1
        self._update_average()
        return float(loss.detach())

    @torch.no_grad()
    def _update_average(self) -> None:
        kept = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in self.module.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - kept)
            else:
                self.average[name].copy_(value)


def report(losses: Iterator[float], every: int = 50) -> None:
    """Runs a stage to its end and prints the mean loss now and then."""
    window: list[float] = []
    began = time.monotonic()
    for number, loss in enumerate(losses, 1):
        window.append(loss)
        if number % every == 0:
            print(
                f"{number:6d} steps  loss {sum(window) / len(window):.5f}  {time.monotonic() - began:7.0f} s",
                flush=True,
            )
            window.clear()


WEIGHTS = Path(__file__).parents[1] / "weights"
