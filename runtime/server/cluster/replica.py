"""A replica: one process of a Ray cluster that draws with the bundles that it has open.

It runs in Ray's worker processes. A job comes as a call of `draw` and is answered event by event, so that whoever asks
sees it step by step, and Ray knows from the last event on that there is room again.
"""

import asyncio
import os
import tempfile
import warnings
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import gethostname
from threading import Event
from typing import Any

from ray import serve

from ...errors import InputError
from ..jobs.drawer import bundle_counts
from ..jobs.drawing import draw_call
from ..models.bundles import ServedBundles
from ..settings import ServerSettings
from .loopback import keep_to_loopback
from .sent_call import Happened, SentCall


class Replica:
    """Draws calls, `lanes` at a time: those of one bundle share their steps. Keeps `most_open` bundles open, -1 for
    all. With `alone`, the cluster is this machine, and nobody else may reach the replica."""

    def __init__(self, settings: ServerSettings, most_open: int, alone: bool):
        # What a run warns of, its answer tells; here it would name prompts.
        warnings.simplefilter("ignore", UserWarning)
        if alone:
            keep_to_loopback()
        self._id = serve.get_replica_context().replica_id.unique_id
        self._bundles = ServedBundles.of(settings)
        self._pool = ThreadPoolExecutor(settings.lanes, "draw")

        async def open_bundle(name: str) -> _OpenBundle:
            await asyncio.to_thread(self._bundles.open, name)
            return _OpenBundle(self._bundles, name)

        # Ray sends calls of a bundle to replicas that have it open, as far as those have room.
        self._opened = serve.multiplexed(max_num_models_per_replica=most_open)(open_bundle)

    async def draw(self, sent: SentCall) -> AsyncIterator[Happened]:
        """Draws one call. Whoever stops listening ends it within one step."""
        try:
            await self._opened(sent.call.bundle)
        except InputError as error:
            yield "refused", {"problems": error.problems}
            return
        yield "begun", self._place()
        loop, stop = asyncio.get_running_loop(), Event()
        happened: asyncio.Queue[Happened | None] = asyncio.Queue()

        def tell(name: str, data: dict[str, Any]) -> None:
            loop.call_soon_threadsafe(happened.put_nowait, (name, data))

        drawing = loop.run_in_executor(self._pool, self._drawn, sent, stop, tell)
        drawing.add_done_callback(lambda _: happened.put_nowait(None))
        try:
            while (event := await happened.get()) is not None:
                yield event
            yield await drawing
        finally:
            stop.set()

    def _place(self) -> dict[str, Any]:
        """Where it is, for whoever looks after the cluster."""
        gpus = os.environ.get("CUDA_VISIBLE_DEVICES")
        return {"replica": self._id, "machine": gethostname(), "pid": os.getpid(), "gpus": gpus}

    def _drawn(self, sent: SentCall, stop: Event, tell: Any) -> Happened:
        with tempfile.TemporaryDirectory(prefix="x2i-replica-") as folder:
            try:
                drawn = draw_call(self._bundles, sent.unpacked(Path(folder)), stop, tell)
            except InputError as error:
                return "refused", {"problems": error.problems}
        return "drawn", {"drawn": drawn, "replica": self._id, "counts": tuple(bundle_counts(self._bundles))}


class _OpenBundle:
    """What Ray keeps of a bundle that is open; it calls `__del__` for the one that must make room for another."""

    def __init__(self, bundles: ServedBundles, name: str):
        self._bundles, self._name, self._open = bundles, name, True

    def __del__(self) -> None:
        if self._open:
            self._open = False
            self._bundles.close_unused(self._name)
