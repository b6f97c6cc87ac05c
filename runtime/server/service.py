"""One server's parts, and the way that every interface goes through them: from fields to a job."""

import asyncio
import secrets
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import InputError
from .api.body import Body
from .api.options import brings_files, length_problems, limit_problems, options_of_body
from .jobs.drawer import Drawer, ThreadDrawer
from .jobs.job import Asked, Job, PictureFormat
from .jobs.scheduler import Scheduler
from .metrics import ServerMetrics
from .models.bundles import ServedBundle, ServedBundles
from .refusals import ApiError, refused
from .settings import ServerSettings


class Service:
    """Bundles, scheduler and counters of one server, whose jobs `drawer` draws: where it is left out, threads of this
    process do. Raises InputError for bundles that cannot be opened."""

    def __init__(self, settings: ServerSettings, drawer: Drawer | None = None):
        self.settings, self.limits = settings, settings.limits
        self.bundles = ServedBundles.of(settings)
        self._drawer = drawer or ThreadDrawer(self.bundles, settings.lanes)
        self.metrics = ServerMetrics(self._drawer.counts)
        self.scheduler = Scheduler(self._drawer, settings.limits, self.metrics)
        self._opened = False
        self.failure: BaseException | None = None
        """Why whatever draws could not be made ready."""
        self._uploads = tempfile.TemporaryDirectory(prefix="x2i-server-", ignore_cleanup_errors=True)

    @property
    def ready(self) -> bool:
        """Whether it takes work: the first bundles are open, and it does not stop."""
        return self._opened and self.scheduler.stopping is None

    async def open(self) -> None:
        """Makes ready whatever draws; where that fails, `failure` says why."""
        opening = asyncio.ensure_future(self._drawer.open())
        await asyncio.wait([opening])
        self.failure = opening.exception()
        if self.failure is None:
            self._opened = True
            self.scheduler.start()

    async def close(self) -> None:
        """Lets the jobs that are there end, and removes what was uploaded."""
        await self.scheduler.drain(self.settings.drain_seconds)
        await self._drawer.close()
        self._uploads.cleanup()

    def bundle(self, name: Any) -> ServedBundle:
        """A bundle by its name, the first where none is named. Raises ApiError (404) for a name of none."""
        if name is None or name == "":
            return self.bundles[self.bundles.names[0]]
        if not isinstance(name, str) or name not in self.bundles:
            message = f"model: expected one of {', '.join(self.bundles.names)}, got {str(name)[:100]!r}; choose one"
            raise ApiError(404, message, "model", "model_not_found")
        return self.bundles[name]

    async def ask(
        self,
        served: ServedBundle,
        prompt: Any,
        body: Body,
        previews: int = 0,
        picture_format: PictureFormat | None = None,
        notes: Sequence[str] = (),
    ) -> Asked:
        """A checked call of a bundle with the options in a body. Raises ApiError (400) with every problem."""
        folder = Path(self._uploads.name, secrets.token_hex(8))
        form = picture_format or PictureFormat()
        check = partial(self._asked, served, prompt, body, previews, form, tuple(notes), folder)
        try:
            # Pictures are read away from the event loop; for words the way to a thread takes longer than the work.
            return await asyncio.to_thread(check) if brings_files(body) else check()
        except InputError as error:
            shutil.rmtree(folder, ignore_errors=True)
            self.metrics.refusals.labels("bad_input").inc()
            raise refused(error, f"{folder}/") from error

    def submit(self, asked: Asked, client: str) -> Job:
        """A checked call in the queue. Raises ApiError where that is full, or the server stops."""
        try:
            return self.scheduler.submit(asked, client)
        except ApiError:
            if asked.folder is not None:
                shutil.rmtree(asked.folder, ignore_errors=True)
            raise

    def _asked(
        self,
        served: ServedBundle,
        prompt: Any,
        body: Body,
        previews: int,
        picture_format: PictureFormat,
        notes: tuple[str, ...],
        folder: Path,
    ) -> Asked:
        options = options_of_body(body, folder, self.limits)
        if problems := length_problems({"prompt": prompt, **options}, self.limits):
            raise InputError(*problems)
        request = served.check(prompt, options)
        usual = served.bundle.manifest.plan.main.steps
        steps = request.steps or request.values["steps"] or usual
        if problems := limit_problems(request, steps, self.limits):
            raise InputError(*problems)
        kept = folder if folder.is_dir() else None
        # What was prepared is prepared again when it is drawn; many that wait would fill the memory.
        light = replace(request, inputs=replace(request.inputs, slots={}))
        return Asked(
            bundle=served.name,
            prompt=prompt,
            options=options,
            previews=previews,
            picture_format=picture_format,
            notes=notes,
            request=light,
            steps=steps,
            folder=kept,
        )
