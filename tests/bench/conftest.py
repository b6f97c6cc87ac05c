"""A benchmark whose peers are fake, and whose environments are this one."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import answers
from harness.answers import AnswerStore
from harness.bench import Bench
from harness.cases import CASES, Case
from harness.contestants import REFERENCE, Contestant
from harness.environments import Environments
from harness.folders import Folders

Make = Callable[..., Bench]


@pytest.fixture
def case() -> Case:
    """Small, and not square."""
    return replace(CASES["emoji-64"], height=24, width=40, warm=1, steps=3, rounds=1, picture_steps=2)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A bench of contestants, its lines in `said`."""
    monkeypatch.setattr(answers, "PEERS", Path(__file__).parent)
    monkeypatch.setattr(Environments, "python", lambda self, name: Path(sys.executable))
    monkeypatch.setattr(Folders, "__call__", lambda self, model, kind, preset=None: tmp_path)

    def make(*contestants: Contestant) -> Bench:
        environments = Environments(tmp_path / "environments")
        folders = Folders(tmp_path / "models", tmp_path / "full", environments)
        store = AnswerStore(tmp_path / "bench.json")
        return Bench(tmp_path, (fake(REFERENCE), *contestants), folders, environments, store, lambda line: None)

    return make


def fake(name: str, ours: bool = False, **options: Any) -> Contestant:
    """A contestant that the fake peer stands for."""
    return Contestant(name, "fake_peer", "none", options=options, ours=ours)


def everybody(contestant: Contestant) -> bool:
    """All of them."""
    return True
