"""The application: its interfaces, health, metrics and page, for uvicorn or a test."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import JSONResponse, Response

from ..errors import InputError
from .access import AccessLog, KeyCheck
from .api import automatic1111, native_jobs, openai_images
from .api.clients import service_of
from .api.schema import LIVE, METRICS, READINESS, REFUSALS, answers, described
from .bodies import BodyLimits
from .jobs.drawer import Drawer
from .metrics import CONTENT_TYPE
from .page.page import page
from .refusals import ApiError, refused
from .service import Service
from .settings import ServerSettings

BODIES = {
    "/v1/images/generations": openai_images.image_body,
    "/v1/images/edits": openai_images.image_body,
    "/x2i/v1/jobs": native_jobs.job_body,
    "/sdapi/v1/txt2img": automatic1111.drawing_body,
    "/sdapi/v1/img2img": automatic1111.drawing_body,
    "/sdapi/v1/options": automatic1111.options_body,
}
"""What bodies hold, by address."""


class Application(FastAPI):
    """FastAPI's, whose schema says what these bundles take."""

    openapi_schema: dict[str, Any] | None

    def openapi(self) -> dict[str, Any]:
        """The schema, made once."""
        if self.openapi_schema is None:
            service: Service = self.state.service
            self.openapi_schema = described(super().openapi(), BODIES, list(service.bundles), service.limits)
        return self.openapi_schema


def create_app(settings: ServerSettings, drawer: Drawer | None = None) -> FastAPI:
    """The application of a server, whose jobs `drawer` draws: where it is left out, threads of this process do. Bundles
    are opened when it starts; those that cannot be are refused here, by InputError."""
    service = Service(settings, drawer)
    app = Application(
        title="x2i",
        version=version("x2i-edge"),
        lifespan=_lifespan,
        # Their pages would be fetched from elsewhere.
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.service = service
    for module in (openai_images, native_jobs, automatic1111):
        app.include_router(module.router)
    for path, answer, responses in (
        ("/health/live", _live, answers(200, LIVE)),
        ("/health/ready", _ready, REFUSALS | READINESS),
        ("/metrics", _metrics, REFUSALS | METRICS),
    ):
        # None of them is JSON by FastAPI's own word.
        app.add_api_route(
            path, answer, methods=["GET"], tags=["operation"], responses=responses, response_class=Response
        )
    app.add_api_route("/", _page, methods=["GET"], include_in_schema=False)
    for kind, handler in _HANDLERS.items():
        app.add_exception_handler(kind, handler)
    # The last that is added stands outermost.
    if settings.key is not None:
        app.add_middleware(KeyCheck, key=settings.key)
    app.add_middleware(BodyLimits, limits=settings.limits)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(settings.origins), allow_methods=["*"], allow_headers=["*"]
        )
    app.add_middleware(AccessLog, prompts=settings.log_prompts)
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    service: Service = app.state.service
    # Meanwhile it answers that it is not ready.
    opening = asyncio.create_task(service.open())
    try:
        yield
    finally:
        await opening
        await service.close()


async def _live() -> Response:
    """Whether the process answers."""
    return JSONResponse({"status": "alive"})


async def _ready(request: Request) -> Response:
    """Whether it takes work: 503 while it opens its bundles, and once it stops."""
    ready = service_of(request).ready
    return JSONResponse({"status": "ready" if ready else "not ready"}, 200 if ready else 503)


async def _metrics(request: Request) -> Response:
    """Counters in Prometheus' text format."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE)


async def _page() -> Response:
    text, policy = page()
    headers = {"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
    return Response(text, media_type="text/html", headers=headers)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status, error.headers)


async def _bad_input(request: Request, error: Exception) -> Response:
    assert isinstance(error, InputError)
    return await _refused(request, refused(error))


async def _not_routed(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    texts = {404: f"no such address: {request.url.path[:200]}; see /openapi.json", 405: "another method is taken here"}
    headers = dict(error.headers or {})
    if error.status_code == 405 and (operations := request.app.openapi()["paths"].get(request.url.path)) is not None:
        # The router tells of the first route alone.
        headers["Allow"] = ", ".join(sorted(method.upper() for method in operations))
    made = ApiError(error.status_code, texts.get(error.status_code, str(error.detail)), headers=headers)
    return await _refused(request, made)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    lines = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors()]
    return await _refused(request, ApiError(400, "\n".join(lines), code="invalid_value"))


async def _failed(request: Request, error: Exception) -> Response:
    # Starlette logs it, with its traceback, once this is answered.
    return await _refused(request, ApiError(500, "the server failed to answer this; see its log", None, "failed"))


_HANDLERS = {
    ApiError: _refused,
    InputError: _bad_input,
    HTTPException: _not_routed,
    RequestValidationError: _invalid,
    Exception: _failed,
}
