"""The bundles of a server: each opened when it is first drawn with, and closed again where the memory is another's."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock
from time import monotonic
from typing import Any, Self

from ...bundle.reader import Bundle, open_bundle
from ...errors import InputError
from ...load import best_pipeline, pipeline_of
from ...memory_limit import BYTES_PER_FILE_BYTE, PROCESS_BYTES
from ...pipeline import Pipeline
from ...request import Request
from ...sessions.backends import graph_opener, unwrapped
from ...sessions.openvino_support import uses_static_shapes
from ...sessions.session import Session, Settings
from ..settings import ServerLimits, ServerSettings
from .batch_sizes import BatchSizes, keep_batch_sizes, kept_batch_sizes, measure_batch_sizes
from .capabilities import bundle_capabilities
from .kept_encodings import KeptEncodings
from .shared_steps import SharedSteps


class ServedBundle:
    """One bundle of a server, by its `name`. `shared` is where its runs meet, `encodings` what is kept of prompts and
    pictures; `sizes` says how many pictures share a step, None where it was not measured."""

    def __init__(self, name: str, bundle: Bundle, backend: str | None, threads: int | None, limits: ServerLimits):
        self.name, self.bundle = name, bundle
        self.shared, self.encodings = SharedSteps(), KeptEncodings(limits.encodings_bytes)
        self.sizes: BatchSizes | None = None
        self.users, self.used = 0, 0.0
        self.has_room = False
        """Whether it counts among those in memory: it is open, or being opened."""
        self._backend, self._threads, self._limits = backend, threads, limits
        self._pipeline: Pipeline | None = None
        # It reads prompts, and opens no graph.
        self._checking = Pipeline(bundle, graph_opener("cpu", bundle), openers=0)
        self._opening = Lock()

    @property
    def loaded(self) -> bool:
        """Whether its graphs are in memory."""
        return self._pipeline is not None

    @property
    def needed_bytes(self) -> int:
        """An estimate of the memory that its graphs take."""
        graphs = self.bundle.manifest.graphs
        times = BYTES_PER_FILE_BYTE["cpu"]
        most = max(times.values())
        return round(sum(self.bundle.graph_bytes(name) * times.get(graphs[name].precision, most) for name in graphs))

    def check(self, prompt: str | None, options: dict[str, Any]) -> Request:
        """What a call would draw. Raises InputError for bad input, with every problem."""
        return self._checking.check(prompt, **options)

    def open(self, most_memory: int | None = None) -> Pipeline:
        """Its pipeline, opened where it is not; with `most_memory`, in bytes, its graphs are opened in turns."""
        with self._opening:
            if self._pipeline is None:
                wrap = self._wrapped if most_memory is None else unwrapped
                if self._backend is None:
                    self._pipeline = best_pipeline(self.bundle, None, Settings(self._threads), None, most_memory, wrap)
                else:
                    self._pipeline = pipeline_of(
                        self.bundle, self._backend, Settings(self._threads), most=most_memory, wrap=wrap
                    )
                self.shared.in_powers = self._compiles_for_rows(self._pipeline.backend)
                if most_memory is None:
                    self.sizes = kept_batch_sizes(self.bundle, self._pipeline.backend, self._threads)
            return self._pipeline

    def close(self) -> None:
        """Lets go of its graphs and of what was encoded."""
        with self._opening:
            if self._pipeline is not None:
                self._pipeline.close()
            self._pipeline = None
            self.encodings.clear()

    def most_at_once(self, size: tuple[int, int]) -> int:
        """How many pictures of a size (height, width) share a step."""
        return 1 if self.sizes is None else self.sizes.most(size)

    def capabilities(self) -> dict[str, Any]:
        """What it takes and gives, as JSON."""
        return bundle_capabilities(self.name, self.bundle.manifest, self._limits, self.loaded)

    def _compiles_for_rows(self, backend: str) -> bool:
        """Whether a backend compiles a graph of its steps anew for each number of rows."""
        name, _, device = backend.partition(":")
        graphs = (self.bundle.graph_file(graph) for graph in self.bundle.manifest.plan.denoisers())
        return name == "openvino" and any(uses_static_shapes(graph, device) for graph in graphs)

    def _wrapped(self, graph: str, session: Session) -> Session:
        plan = self.bundle.manifest.plan
        if plan.in_loop(graph):
            return self.shared.session(session)
        tails = {tail for process in plan.processes for tail in process.tail_graphs()}
        return session if graph in tails else self.encodings.session(graph, session)


class ServedBundles:
    """All bundles of a server, by name: those in memory keep to `most_memory` bytes, where that is given.

    Raises InputError for folders that are no bundles, and for two of one name.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        limits: ServerLimits,
        backend: str | None = None,
        threads: int | None = None,
        most_memory: int | None = None,
    ):
        self._most, self._changed = most_memory, Condition()
        self._served: dict[str, ServedBundle] = {}
        problems: list[str] = []
        for folder in folders:
            name = folder.resolve().name
            try:
                bundle = open_bundle(folder)
            except InputError as error:
                problems += error.problems
                continue
            if name in self._served:
                problems.append(f"{folder}: expected bundles of different names, got {name} twice; rename a folder")
            else:
                self._served[name] = ServedBundle(name, bundle, backend, threads, limits)
        if problems:
            raise InputError(*problems)

    @classmethod
    def of(cls, settings: ServerSettings) -> Self:
        """Those that a server is started with."""
        return cls(settings.bundles, settings.limits, settings.backend, settings.threads, settings.max_memory)

    def __iter__(self) -> Iterator[ServedBundle]:
        return iter(self._served.values())

    def __getitem__(self, name: str) -> ServedBundle:
        return self._served[name]

    def __contains__(self, name: object) -> bool:
        return name in self._served

    @property
    def names(self) -> list[str]:
        """In the order in which they were given; the first is drawn with where nobody names one."""
        return list(self._served)

    def open_first(self) -> None:
        """Opens bundles in their order, as many as the memory holds together, and one at least."""
        room = self._most
        for number, served in enumerate(self):
            if room is not None:
                room -= served.needed_bytes + (0 if number else PROCESS_BYTES)
                if number and room < 0:
                    break
            self.open(served.name)

    def open(self, name: str) -> None:
        """Opens a bundle where it is not, as far as the memory allows."""
        with self.using(name):
            pass

    def close_unused(self, name: str) -> None:
        """Closes a bundle once nobody draws with it."""
        served = self._served[name]
        with self._changed:
            self._changed.wait_for(lambda: not served.users)
            served.close()

    @contextmanager
    def using(self, name: str) -> Iterator[tuple[ServedBundle, Pipeline]]:
        """A bundle and its opened pipeline, which stays open as long as it is used; others are closed for it."""
        served = self._served[name]
        with self._changed:
            served.users += 1
        try:
            yield served, served.open(self._make_room(served))
        finally:
            with self._changed:
                served.users -= 1
                served.used = monotonic()
                # Where it could not be opened.
                served.has_room = served.has_room and (served.loaded or served.users > 0)
                self._changed.notify_all()

    def _make_room(self, served: ServedBundle) -> int | None:
        """Closes those that were not used for the longest time. Returns the limit to open `served` under: none where
        all of it fits."""
        if self._most is None or served.loaded:
            return None
        alone = PROCESS_BYTES + served.needed_bytes
        with self._changed:
            while True:
                others = [each for each in self if each.has_room and each is not served]
                if alone + sum(each.needed_bytes for each in others) <= self._most or not others:
                    served.has_room = True
                    return None if alone <= self._most else self._most
                idle = [each for each in others if not each.users]
                if idle:
                    oldest = min(idle, key=lambda each: each.used)
                    oldest.close()
                    oldest.has_room = False
                else:
                    self._changed.wait()


def measure_bundles(
    folders: Sequence[Path], backend: str | None, threads: int | None, sizes: Sequence[tuple[int, int]] = ()
) -> Iterator[str]:
    """Measures how many pictures share a step fastest in each bundle, at its usual size and at others, keeps it there,
    and says so in a line each. Raises InputError for a folder that is no bundle, and for a size that one does not
    draw."""
    for folder in folders:
        bundle = open_bundle(folder)
        settings = Settings(threads)
        pipeline = best_pipeline(bundle, None, settings) if backend is None else pipeline_of(bundle, backend, settings)
        found = measure_batch_sizes(pipeline, threads, sizes)
        keep_batch_sizes(bundle, found)
        yield from (f"{folder.name}: {each.describe()}" for each in found.measured)
