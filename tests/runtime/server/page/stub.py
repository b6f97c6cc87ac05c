"""A server that speaks the native API and draws nothing: for the page, where slow steps, refusals and keys must come on
demand."""

import asyncio
import json
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from time import time
from typing import Any

import numpy as np
import soundfile
import uvicorn
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from x2i.runtime.inputs.registry import run_options
from x2i.runtime.server.page.page import page

SIZE = {"height": 64, "width": 64, "multiple": 8, "fixed": False}
LAST = ("done", "failed", "cancelled")


def options(*names: str, **choices: list[str]) -> dict[str, Any]:
    """The schemas of a bundle's options, as capabilities have them."""
    known = run_options()
    made = {name: known[name].schema() | {"form": known[name].form} for name in names}
    return made | {name: made[name] | {"form": "choice", "enum": words} for name, words in choices.items()}


SAMPLED = ("negative", "seed", "steps", "guidance", "size", "count", "sampler", "eta")
TEXTS: dict[str, Any] = {
    "name": "words",
    "system": "gluegen-text",
    "gives": ["picture"],
    "prompt": "required",
    "size": SIZE,
    "steps": 6,
    "guidance": 4.0,
    "loaded": True,
    "options": options("language", *SAMPLED, language=["English", "French", "Japanese"]),
}
PICTURES = TEXTS | {
    "name": "pictures",
    "system": "stable-diffusion",
    "prompt": "optional",
    "options": options(*SAMPLED, "image", "mask", "strength"),
}
SOUNDS = TEXTS | {
    "name": "sounds",
    "system": "gluegen-sound",
    "prompt": "none",
    "options": options("seed", "steps", "guidance", "sound"),
}
CAPTIONS = TEXTS | {
    "name": "captions",
    "system": "ddcap",
    "prompt": "none",
    "gives": ["text"],
    "size": None,
    "guidance": None,
    "options": options("seed", "steps", "image", "temperature", "untruncated", "loop"),
}
MUSIC = CAPTIONS | {"name": "music", "system": "cdcd-music", "gives": ["sound"], "options": options("seed")}


@dataclass
class Job:
    """One job: what was asked, and how far it is."""

    id: str
    asked: dict[str, Any]
    files: dict[str, list[bytes]]
    state: str = "queued"
    step: int = 0
    error: dict[str, Any] | None = None
    result: dict[str, Any] | None = None
    created: float = field(default_factory=time)
    listeners: list[asyncio.Queue[tuple[str, dict[str, Any]]]] = field(default_factory=list)


@dataclass
class Stub:
    """What it has seen, and what it is told to do.

    No job goes beyond the step `held`; the next `refusals` submissions are told to come back after a second; each
    message of `failures` is the next job's error; `key` guards it.
    """

    key: str = ""
    refusals: int = 0
    failures: list[str] = field(default_factory=list)
    bundles: list[dict[str, Any]] = field(default_factory=lambda: [TEXTS, PICTURES, SOUNDS, CAPTIONS, MUSIC])
    step_seconds: float = 0.01
    held: int | None = None
    jobs: dict[str, Job] = field(default_factory=dict)
    blobs: dict[str, tuple[bytes, str]] = field(default_factory=dict)

    @property
    def last(self) -> Job:
        return [*self.jobs.values()][-1]

    def app(self) -> Starlette:
        routes = [
            Route("/", self.page),
            Route("/x2i/v1/capabilities", self.guarded(self.capabilities)),
            Route("/x2i/v1/jobs", self.guarded(self.submit), methods=["POST"]),
            Route("/x2i/v1/jobs/{id}", self.guarded(self.job)),
            Route("/x2i/v1/jobs/{id}/cancel", self.guarded(self.cancel), methods=["POST"]),
            Route("/x2i/v1/jobs/{id}/events", self.guarded(self.events)),
            Route("/x2i/v1/results/{id}/{name}", self.blob),
        ]
        return Starlette(routes=routes)

    def guarded(self, inner: Callable[[Request], Any]) -> Callable[[Request], Any]:
        async def handler(request: Request) -> Response:
            if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
                return refusal(401, "key: expected the server's, got another")
            return await inner(request)

        return handler

    async def page(self, request: Request) -> Response:
        text, policy = page()
        return HTMLResponse(text, headers={"Content-Security-Policy": policy})

    async def capabilities(self, request: Request) -> Response:
        limits = {
            "waiting": 64,
            "body_bytes": 2**25,
            "pixels": 2**24,
            "seconds": 600,
            "keep_seconds": 600,
            "pictures": 10,
        }
        return JSONResponse({"version": "0.0.0", "limits": limits, "bundles": self.bundles})

    async def submit(self, request: Request) -> Response:
        form = await request.form()
        if self.refusals:
            self.refusals -= 1
            return refusal(429, "queue: expected at most 64 waiting, got 64", {"Retry-After": "1"})
        asked = json.loads(str(form["request"]))
        files: dict[str, list[bytes]] = {}
        for name, value in form.multi_items():
            if not isinstance(value, str):
                files.setdefault(name, []).append(await value.read())
        job = Job(f"job{len(self.jobs)}", asked, files)
        self.jobs[job.id] = job
        self.running = asyncio.ensure_future(self.draw(job, getattr(self, "running", None)))
        return JSONResponse(self.told(job), status_code=202)

    async def draw(self, job: Job, before: Any) -> None:
        if before is not None:
            await before
        steps, options = self.steps(job), job.asked["options"]
        height, width = options.get("size", (64, 64))
        rng = np.random.default_rng(options.get("seed", 0))
        clean = np.kron(rng.integers(40, 255, (4, 4, 3)), np.ones((16, 16, 1))).astype(np.float32)
        while job.state in ("queued", "running") and job.step < steps:
            self.change(job, state="running")
            await asyncio.sleep(self.step_seconds)
            # A held step is told again and again, for whoever comes later.
            job.step += self.held is None or job.step < self.held
            left = (steps - job.step) * self.step_seconds
            self.tell(job, "step", {"step": job.step, "steps": steps, "seconds_left": left})
            noisy = clean + rng.normal(0, 90 * (1 - job.step / steps), clean.shape)
            shown = "data:image/png;base64," + b64encode(png(noisy, (width, height), {})).decode()
            self.tell(job, "preview", {"step": job.step, "steps": steps, "pictures": [shown], "texts": []})
        if job.state == "running":
            self.finish(job, clean, (width, height))

    def finish(self, job: Job, clean: np.ndarray, size: tuple[int, int]) -> None:
        if self.failures:
            self.change(job, state="failed", error=error_object(self.failures.pop(0)))
            return
        bundle = next(one for one in self.bundles if one["name"] == job.asked["bundle"])
        count = job.asked["options"].get("count", 1) if "picture" in bundle["gives"] else 0
        pictures = []
        for k in range(count):
            url = f"/x2i/v1/results/{job.id}/picture-{k + 1}.png"
            self.blobs[url] = png(np.roll(clean, 16 * k, 0), size, {"parameters": json.dumps(job.asked)}), "image/png"
            pictures.append({"url": url, "width": size[0], "height": size[1]})
        texts = ["a red apple"] if "text" in bundle["gives"] else []
        sounds = []
        if "sound" in bundle["gives"]:
            url, out = f"/x2i/v1/results/{job.id}/sound-1.wav", BytesIO()
            soundfile.write(out, np.sin(np.arange(4000) / 9), 16000, format="WAV")
            self.blobs[url] = out.getvalue(), "audio/wav"
            sounds.append({"url": url, "rate": 16000, "seconds": 0.25})
        seconds = {"encode": 0.1, "denoise": 1.0, "decode": 0.1, "total": 1.2}
        result = {"pictures": pictures, "texts": texts, "sounds": sounds, "warnings": [], "seconds": seconds}
        self.change(job, state="done", result=result | {"expires": time() + 600})

    def steps(self, job: Job) -> int:
        return job.asked["options"].get("steps", 6)

    def told(self, job: Job) -> dict[str, Any]:
        ahead = sum(one.state in ("queued", "running") for one in self.jobs.values() if one.created < job.created)
        shown = {"id": job.id, "bundle": job.asked["bundle"], "state": job.state, "created": job.created}
        position = ahead if job.state == "queued" else None
        progress = {"step": job.step, "steps": self.steps(job), "seconds_left": None, "position": position}
        return shown | progress | {"error": job.error, "result": job.result}

    def change(self, job: Job, **changes: Any) -> None:
        before = job.state
        for name, value in changes.items():
            setattr(job, name, value)
        if job.state != before:
            self.tell(job, "job", self.told(job))

    def tell(self, job: Job, event: str, data: dict[str, Any]) -> None:
        for listener in job.listeners:
            listener.put_nowait((event, data))

    async def job(self, request: Request) -> Response:
        if (job := self.jobs.get(request.path_params["id"])) is None:
            return refusal(404, "job: expected one that the server has")
        return JSONResponse(self.told(job))

    async def cancel(self, request: Request) -> Response:
        job = self.jobs[request.path_params["id"]]
        if job.state not in LAST:
            self.change(job, state="cancelled")
        return JSONResponse(self.told(job))

    async def events(self, request: Request) -> Response:
        if (job := self.jobs.get(request.path_params["id"])) is None:
            return refusal(404, "job: expected one that the server has")
        listener: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue()
        job.listeners.append(listener)

        async def told() -> AsyncIterator[str]:
            event, data = "job", self.told(job)
            while True:
                yield f": alive\n\nevent: {event}\ndata: {json.dumps(data)}\n\n"
                if data.get("state") in LAST:
                    return
                event, data = await listener.get()

        return StreamingResponse(told(), media_type="text/event-stream")

    async def blob(self, request: Request) -> Response:
        content, kind = self.blobs[request.url.path]
        return Response(content, media_type=kind)


def error_object(message: str) -> dict[str, Any]:
    return {"message": message, "type": "invalid_request_error", "param": message.partition(":")[0], "code": None}


def refusal(status: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": error_object(message)}, status_code=status, headers=headers)


def png(pixels: np.ndarray, size: tuple[int, int], words: dict[str, str]) -> bytes:
    """A picture of `size` (width, height) with texts."""
    info, out = PngInfo(), BytesIO()
    for name, text in words.items():
        info.add_itxt(name, text)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).resize(size).save(out, "PNG", pnginfo=info)
    return out.getvalue()


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of a server that runs while the block does."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        threading.Event().wait(0.01)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
