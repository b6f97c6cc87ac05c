"""Pictures that share their steps are those that each would be alone."""

import base64
import io
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from x2i.runtime import InputError
from x2i.runtime.load import load
from x2i.runtime.output import save_picture
from x2i.runtime.server.models.shared_steps import SharedSteps

from tests.bundles import tiny
from tests.runtime.server.running import Gate, Running, picture, running, share_steps, wait_until

pytestmark = pytest.mark.filterwarnings("ignore")
SMALL = (64, 64)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs wait for one another however busy the machine is."""
    monkeypatch.setattr("x2i.runtime.server.models.shared_steps.LEAST_PATIENCE", 30.0)


@pytest.fixture(scope="module")
def elite(elite_bundle: Path) -> Iterator[Running]:
    with running(elite_bundle) as server:
        share_steps(server.bundle())
        yield server


def alone(folder: Path, prompt: str | None, **options: Any) -> list[bytes]:
    """The files that `x2i run` writes."""
    drawn = load(folder, "cpu", threads=1)(prompt, **options)
    found = []
    for image in drawn.images:
        stream = io.BytesIO()
        save_picture(image, ".png", stream)
        found.append(pixels(stream.getvalue()))
    return found


def pixels(data: bytes) -> bytes:
    return Image.open(io.BytesIO(data)).convert("RGB").tobytes()


def together(server: Running, calls: list[dict[str, Any]], gate: Gate) -> list[list[bytes]]:
    """The pictures of calls that all walk at once."""
    gate.close()
    jobs = [server.submit(**call) for call in calls]
    wait_until(lambda: gate.standing == len(jobs))
    gate.open()
    return [[image.tobytes() for image in server.pictures(job)] for job in jobs]


def sent(call: dict[str, Any]) -> dict[str, Any]:
    """A call as a client sends it: files in base64."""
    return {
        name: base64.b64encode(each.read_bytes()).decode() if isinstance(each, Path) else each
        for name, each in call.items()
    }


def test_subjects_prompts_strengths_seeds_steps_samplers_and_guidances(
    elite: Running, elite_bundle: Path, tmp_path: Path
) -> None:
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(picture(number))
    first, second = tmp_path / "0.png", tmp_path / "1.png"
    calls: list[dict[str, Any]] = [
        {"prompt": "a photo of S", "subject": first, "steps": 5, "seed": 1, "strength": 0.6},
        {"prompt": "a S in the snow", "subject": second, "steps": 5, "seed": 2, "strength": 0.1},
        {"prompt": "S", "subject": first, "steps": 3, "sampler": "euler", "guidance": 3.0, "negative": "grey"},
        {"prompt": "a photo of S", "subject": second, "steps": 7, "sampler": "dpmpp_2m", "guidance": 1.0},
        {"prompt": "a photo of S", "subject": first, "steps": 4, "count": 2, "seed": 5},
    ]
    calls = [{**call, "size": SMALL} for call in calls]
    truth = [alone(elite_bundle, **call) for call in calls]
    gate = Gate(elite.bundle())
    before = dict(elite.bundle().shared.calls)
    found = together(elite, [sent(call) for call in calls], gate)
    gate.remove()
    assert found == truth
    made = elite.bundle().shared.calls - type(elite.bundle().shared.calls)(before)
    assert max(made) == 5, f"not all steps were shared: {made}"


def test_languages_share_steps(server: Running, tiny_bundle: Path, gate: Gate) -> None:
    share_steps(server.bundle())
    calls = [
        {"prompt": "red apple", "language": language, "seed": seed, "steps": steps, "size": SMALL}
        for language, seed, steps in (("French", 1, 5), ("Chinese", 2, 5), ("French", 3, 4))
    ]
    assert together(server, calls, gate) == [alone(tiny_bundle, **call) for call in calls]
    assert max(server.bundle().shared.calls) == 3


def test_one_joins_between_steps_and_one_leaves(server: Running, tiny_bundle: Path, gate: Gate) -> None:
    share_steps(server.bundle())
    usual = {"prompt": "red apple", "language": "French", "size": SMALL, "steps": 8}
    gate.close()
    first, cancelled = server.submit(**usual, seed=1), server.submit(**usual, seed=2)
    wait_until(lambda: gate.standing == 2)
    while not (first.step and cancelled.step):
        gate.let(1)
        wait_until(lambda: not gate.left)
    late = server.submit(**usual, seed=3)
    server.post(f"/x2i/v1/jobs/{cancelled.id}/cancel", b"")
    wait_until(lambda: late.state == "running")
    gate.open()
    for job, seed in ((first, 1), (late, 3)):
        assert [image.tobytes() for image in server.pictures(job)] == alone(tiny_bundle, **usual, seed=seed)
    assert server.ended(cancelled)["state"] == "cancelled"


@pytest.mark.parametrize("system", ["unid3", "muse"])
def test_tokens_share_steps(system: str, tmp_path: Path) -> None:
    folder = tiny(system)
    source, mask = tmp_path / "a.png", tmp_path / "mask.png"
    source.write_bytes(picture())
    Image.fromarray(np.where(np.arange(40) < 20, 255, 0).astype(np.uint8)[None].repeat(48, 0)).save(mask)
    more: dict[str, Any] = {"image": source, "mask": mask, "fast": 6} if system == "unid3" else {"steps": 3}
    prompts = (None, None) if system == "unid3" else ("red", "a blue apple")
    calls = [{"prompt": prompt, "seed": seed, **more} for seed, prompt in enumerate(prompts)]
    truth = [alone(folder, **call) for call in calls]
    with running(folder) as server:
        share_steps(server.bundle())
        assert together(server, [sent(call) for call in calls], Gate(server.bundle())) == truth
        assert max(server.bundle().shared.calls) == 2


class Failing:
    """A session that refuses some rows, and fails otherwise at others."""

    def __init__(self, refuses: float, fails: float = -1.0):
        self.inputs = self.outputs = ()
        self._refuses, self._fails = refuses, fails

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        if (arrays["x"] == self._fails).any():
            raise KeyError("a fault of ours")
        if (arrays["x"] == self._refuses).any():
            raise InputError("refused")
        return {"y": arrays["x"] + 1}


def met(shared: SharedSteps, session: Failing, values: list[float]) -> dict[float, Any]:
    """What runs get that call at once, by what they bring."""
    found: dict[float, Any] = {}
    standing = threading.Barrier(len(values))

    def run(value: float) -> None:
        x = np.full((1, 2), value, np.float32)
        with shared.walking():
            standing.wait(30)
            try:
                found[value] = shared.call(session, session, {}, {"x": x})["y"][0, 0]  # type: ignore[arg-type]
            except (InputError, KeyError) as error:
                found[value] = type(error)

    threads = [threading.Thread(target=run, args=(value,)) for value in values]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == len(values), "a run that waits for ever"
    return found


def test_who_is_refused_alone_leaves_the_others_their_steps() -> None:
    session = Failing(3.0)
    session.bind = lambda **bound: session  # type: ignore[attr-defined]
    assert met(SharedSteps(), session, [1.0, 2.0, 3.0]) == {1.0: 2.0, 2.0: 3.0, 3.0: InputError}


def test_a_fault_of_ours_leaves_no_run_waiting() -> None:
    session = Failing(-2.0, 3.0)
    session.bind = lambda **bound: session  # type: ignore[attr-defined]
    found = met(SharedSteps(), session, [1.0, 2.0, 3.0])
    assert found[3.0] is KeyError
    # Whoever called for all of them may have it, too; nobody else has.
    assert sum(value is KeyError for value in found.values()) <= 2
