"""The parts of a server on a cluster that need no cluster: what Ray is asked for, what travels, what is tried again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from x2i.runtime.errors import InputError
from x2i.runtime.server.cluster.cluster_drawer import ClusterDrawer
from x2i.runtime.server.cluster.sent_call import SentCall
from x2i.runtime.server.cluster.settings import ClusterSettings, cluster_settings
from x2i.runtime.server.cluster.start import _threads, scaling
from x2i.runtime.server.jobs.drawer import BundleCounts
from x2i.runtime.server.jobs.drawing import StoppedError
from x2i.runtime.server.jobs.job import Call
from x2i.runtime.server.settings import ServerSettings

SETTINGS = ServerSettings((Path("a"),), lanes=2)
NOTHING = {"replicas": None, "ray_address": None, "gpus": None, "open": None, "ongoing": None}
CALL = Call(bundle="a", prompt="a pear", options={"steps": 7})


class Answers:
    """A replica's answers: events, and an error in place of the rest."""

    def __init__(self, *told: Any, waits: bool = False):
        self.told, self.waits, self.cancelled = told, waits, False

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._events()

    async def __anext__(self) -> Any:
        self._walk = getattr(self, "_walk", None) or self._events()
        return await anext(self._walk)

    async def _events(self) -> AsyncIterator[Any]:
        for each in self.told:
            if isinstance(each, Exception):
                raise each
            yield each
        while self.waits:
            await asyncio.sleep(0.01)

    def cancel(self) -> None:
        self.cancelled = True


class Replicas:
    """Gives one answer after the other."""

    def __init__(self, *answers: Answers):
        self.left = list(answers)

    def draw(self, sent: SentCall) -> Answers:
        return self.left.pop(0)


def drawer(*answers: Answers) -> ClusterDrawer:
    made = ClusterDrawer(SETTINGS, ClusterSettings(1, 3))
    made._replicas = Replicas(*answers)  # type: ignore[assignment]
    return made


def step(number: int) -> tuple[str, dict[str, int]]:
    return "step", {"step": number, "steps": 7}


def preview(number: int) -> tuple[str, dict[str, int]]:
    return "preview", {"step": number, "steps": 7}


BEGUN = ("begun", {"replica": "r", "machine": "m", "pid": 1, "gpus": None})


def drawn(replica: str, kept: int) -> tuple[str, dict[str, Any]]:
    return "drawn", {"drawn": "a picture", "replica": replica, "counts": (BundleCounts("a", kept, 5, {1: 7}),)}


def draw(made: ClusterDrawer, stop: Event | None = None) -> tuple[Any, list[Any]]:
    told: list[Any] = []
    result = asyncio.run(made.draw(CALL, stop or Event(), lambda name, data: told.append((name, data))))  # type: ignore[arg-type]
    return result, told


def test_what_a_dead_replica_drew_is_drawn_again_and_no_preview_is_shown_twice() -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    dead = Answers(BEGUN, step(1), preview(1), step(2), preview(2), ray.exceptions.ActorDiedError())
    made = drawer(dead, Answers(BEGUN, step(1), preview(1), step(2), preview(2), preview(3), drawn("s", 2)))
    result, told = draw(made)
    assert result == "a picture"
    assert [data["step"] for name, data in told if name == "preview"] == [1, 2, 3]
    assert [data["step"] for name, data in told if name == "step"] == [1, 2, 1, 2]
    assert dead.cancelled


def test_what_kills_two_replicas_is_given_up() -> None:
    ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")
    made = drawer(*(Answers(BEGUN, ray.exceptions.ActorDiedError()) for _ in range(2)), Answers(drawn("s", 2)))
    with pytest.raises(ray.exceptions.ActorDiedError):
        draw(made)


def test_what_a_replica_refuses_is_not_tried_again() -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    with pytest.raises(InputError, match="steps: expected"):
        draw(drawer(Answers(("refused", {"problems": ("steps: expected more",)}))))


def test_a_job_that_is_to_stop_stops_its_replica() -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    waiting, stop = Answers(BEGUN, waits=True), Event()
    stop.set()
    with pytest.raises(StoppedError):
        draw(drawer(waiting), stop)
    assert waiting.cancelled


def test_counts_are_those_of_all_replicas_also_of_dead_ones() -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed")
    made = drawer(Answers(drawn("r", 1)), Answers(drawn("s", 2)), Answers(drawn("r", 4)))
    for _ in range(3):
        draw(made)
    assert list(made.counts()) == [BundleCounts("a", 6, 10, {1: 14})]


def test_files_travel_as_bytes_and_keep_their_form(tmp_path: Path) -> None:
    for name in ("image-1", "subjects-1", "subjects-2"):
        (tmp_path / name).write_bytes(name.encode())
    options = {"image": tmp_path / "image-1", "subjects": [tmp_path / "subjects-1", tmp_path / "subjects-2"], "seed": 3}
    sent = SentCall.of(Call(bundle="a", prompt=None, options=options, previews=2))
    assert str(tmp_path) not in repr(sent)
    (there := tmp_path / "there").mkdir()
    call = sent.unpacked(there)
    assert call.previews == 2 and call.options["seed"] == 3
    # Several pictures of one option are a list, also where one came.
    found = call.options["image"] if isinstance(call.options["image"], list) else [call.options["image"]]
    assert [path.read_bytes() for path in found] == [b"image-1"]
    assert [path.read_bytes() for path in call.options["subjects"]] == [b"subjects-1", b"subjects-2"]
    assert all(path.parent == there for path in (*found, *call.options["subjects"]))


def test_replicas_are_scaled_between_two_numbers_by_their_jobs() -> None:
    assert scaling(SETTINGS, ClusterSettings(3, 3)) == {"num_replicas": 3}
    for ongoing, target in ((None, 2.0), (1.5, 1.5)):
        asked = scaling(SETTINGS, ClusterSettings(1, 4, ongoing=ongoing))["autoscaling_config"]
        wanted = {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": target}
        assert asked.items() >= wanted.items()


def test_ray_gets_as_many_jobs_as_all_replicas_are_to_have() -> None:
    made = ClusterDrawer(SETTINGS, ClusterSettings(1, 3, ongoing=2.5))
    call: Any = CALL
    assert made.has_room(call, {"a": [call] * 5, "b": [call] * 3})
    assert not made.has_room(call, {"a": [call] * 5, "b": [call] * 4})


@pytest.mark.parametrize(
    ("cpus", "most", "threads"), [((8,), 1, 8), ((8,), 3, 2), ((8, 8), 2, 8), ((8, 4), 3, 4), ((2,), 5, 1)]
)
def test_replicas_share_the_cpus_that_there_are(cpus: tuple[int, ...], most: int, threads: int) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": float(count)}} for count in cpus]
    assert _threads([*nodes, {"Alive": False, "Resources": {"CPU": 64.0}}], most) == threads


def test_options_of_a_cluster_need_one() -> None:
    assert cluster_settings(NOTHING, "x2i") is None
    with pytest.raises(InputError, match="--ray-address, --gpus: expected with --replicas"):
        cluster_settings({**NOTHING, "ray_address": "auto", "gpus": 1.0}, "x2i")
    with pytest.raises(InputError, match="--gpus: expected a whole number"):
        cluster_settings({**NOTHING, "replicas": (1, 2), "gpus": 1.5}, "x2i")
    found = cluster_settings({**NOTHING, "replicas": (1, 2), "gpus": 0.5, "open": 2}, "x2i")
    assert found == ClusterSettings(1, 2, gpus=0.5, open=2)
