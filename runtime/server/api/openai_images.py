"""OpenAI's image interface: generations, edits and models, with partial pictures as server-sent events."""

import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from starlette.responses import JSONResponse, Response

from ...inputs.registry import run_options
from ..bodies import body_read
from ..jobs.job import Job, PictureFormat, Watch
from ..models.bundles import ServedBundle
from ..models.capabilities import mask_option, pictures_option
from ..refusals import CLIENT_CLOSED, ApiError
from ..service import Service
from ..settings import ServerLimits
from .body import Body, read_body
from .clients import client_of, ended_or_gone, service_of
from .events import EventStream
from .native_jobs import result_url
from .options import decoded_files
from .schema import FORM, JSON, REFUSALS, answers, any_options, body_of, needed_fields, prompt_schema
from .uploads import marked_where_transparent

router = APIRouter(prefix="/v1", tags=["OpenAI"])
QUALITIES = {"low": "fast", "medium": "thin"}
"""OpenAI's words for quality, and the presets that stand for them; the others stand for the plain loop."""
ALIASES = {
    "negative_prompt": "negative",
    "num_inference_steps": "steps",
    "guidance_scale": "guidance",
    "rng_seed": "seed",
}
"""Names that other servers' clients send, by the option that each stands for."""
MOST_PICTURES = 10
"""OpenAI's, of one request."""
IGNORED = ("background", "moderation", "style", "input_fidelity")
USAGE = {
    "total_tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "input_tokens_details": {"text_tokens": 0, "image_tokens": 0},
}
"""Nobody is billed: nothing is counted."""
FORM_TYPES = {"n": int, "output_compression": int, "partial_images": int, "stream": {"true": True, "false": False}.get}


class ImagesRequest(BaseModel):
    """What OpenAI's clients send; more fields are options of the bundle, or are told to be unknown."""

    model_config = ConfigDict(extra="allow", strict=True)

    prompt: str | None = None
    model: str | None = None
    n: Annotated[int, Field(ge=1, le=MOST_PICTURES)] | None = None
    size: Annotated[str, Field(pattern=r"^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$")] | None = None
    quality: Literal["auto", "standard", "hd", "low", "medium", "high"] | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Literal["png", "jpeg", "webp"] | None = None
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    stream: bool | None = None
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    background: Literal["auto", "opaque"] | None = None
    moderation: str | None = None
    style: str | None = None
    input_fidelity: str | None = None
    user: Annotated[str, Field(max_length=1000)] | None = None

    @field_validator("background", mode="before")
    @classmethod
    def _opaque(cls, value: Any) -> Any:
        if value == "transparent":
            raise ValueError("no bundle draws on nothing; leave it out")
        return value


def image_body(served: Sequence[ServedBundle], limits: ServerLimits, kind: str) -> dict[str, Any]:
    """OpenAI's fields as JSON Schema, with the options of these bundles."""
    own, options = ImagesRequest.model_json_schema()["properties"], any_options(served, limits, kind)
    same = {name: options[option] for name, option in ALIASES.items() if option in options}
    fixed = {"prompt": prompt_schema(served, limits), "model": {"enum": [each.name for each in served]}}
    properties = {**options, **same, **own, **fixed}
    if (most := limits.pictures) < MOST_PICTURES:
        properties["n"] = {"type": "integer", "minimum": 1, "maximum": most}
    return {"type": "object", "required": needed_fields(served), "properties": properties}


IMAGES = {"type": "object", "required": ["created", "data"], "properties": {"data": {"type": "array"}}}
STREAMED: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": IMAGES}, "text/event-stream": {}}}
}


@router.get("/models", responses=REFUSALS)
async def list_models(request: Request) -> dict[str, Any]:
    """The bundles, as OpenAI lists models."""
    return {"object": "list", "data": [_model(served) for served in service_of(request).bundles]}


@router.get("/models/{name}", responses=REFUSALS)
async def get_model(request: Request, name: str) -> dict[str, Any]:
    """One bundle, as OpenAI tells of a model."""
    return _model(service_of(request).bundle(name))


@router.post("/images/generations", responses={**answers(200, IMAGES), **STREAMED}, openapi_extra=body_of(JSON))
async def generate(request: Request) -> Response:
    """Pictures of a prompt."""
    return await _draw(request, "image_generation")


@router.post(
    "/images/edits",
    responses={**answers(200, IMAGES), **STREAMED},
    openapi_extra=body_of(JSON, FORM),
)
async def edit(request: Request) -> Response:
    """Pictures from pictures, which become what the bundle reads: subjects in their order, a subject, references, or
    the picture to redraw. What is transparent in a mask is what it marks."""
    return await _draw(request, "image_edit")


async def _draw(request: Request, kind: str) -> Response:
    service = service_of(request)
    job, asked = await _submitted(request, kind)
    if asked.stream:
        watched = job.watch()

        def left() -> None:
            job.leave(watched)
            _left(service, job)

        return EventStream(_streamed(job, watched, kind, asked), left)
    if not await ended_or_gone(request, service, job):
        return Response(status_code=CLIENT_CLOSED)
    return _answer(request, service, job, asked)


async def _submitted(request: Request, kind: str) -> tuple[Job, ImagesRequest]:
    """The job of a request, and its fields without the bundle's own; nothing else of the body is kept."""
    service, body = service_of(request), await read_body(request)
    asked = _parsed(body)
    served = service.bundle(asked.model)
    if "picture" not in served.bundle.manifest.plan.process.gives:
        raise ApiError(400, f"model: {served.name} draws no picture; ask for it by /x2i/v1/jobs", "model")
    notes: list[str] = []
    own = Body(_options(asked, served, notes), dict(body.files), body.typed)
    if kind == "image_edit":
        own = _pictures_of(served, own, notes)
    form = PictureFormat(
        asked.output_format or "png", max(1, 90 if asked.output_compression is None else asked.output_compression)
    )
    previews = (asked.partial_images or 0) if asked.stream else 0
    prompt = None if asked.prompt == "" and served.bundle.manifest.prompt_need == "none" else asked.prompt
    request.state.prompt = prompt
    checked = await service.ask(served, prompt, own, previews, form, notes)
    body_read(request.scope)
    (asked.model_extra or {}).clear()
    return service.submit(checked, client_of(request, asked.user)), asked


def _parsed(body: Body) -> ImagesRequest:
    values = dict(body.values)
    if not body.typed:
        for name, read in FORM_TYPES.items():
            if isinstance(values.get(name), str):
                values[name] = _of_form(values[name], read)
    try:
        return ImagesRequest.model_validate(values)
    except ValidationError as error:
        # Only fields of the class have rules.
        lines = {
            str(each["loc"][0]): f"{each['loc'][0]}: {each['msg']}, got {str(each['input'])[:60]!r}"
            for each in error.errors()
        }
        raise ApiError(400, "\n".join(lines.values()), next(iter(lines)), "invalid_value") from error


def _of_form(text: str, read: Any) -> Any:
    try:
        found = read(text)
    except ValueError:
        return text
    return text if found is None else found


def _options(asked: ImagesRequest, served: ServedBundle, notes: list[str]) -> dict[str, Any]:
    """The options of a run; a line for each field that is none, or is not heeded."""
    known = run_options()
    own = set(ImagesRequest.model_fields)
    values = {ALIASES.get(name, name): value for name, value in (asked.model_extra or {}).items() if value is not None}
    unknown = [name for name in values if name not in known and name not in own]
    notes += [f"{name[:100]}: no option of a picture, and not heeded" for name in unknown]
    notes += [f"{name}: not heeded" for name in IGNORED if getattr(asked, name) not in (None, "auto", "opaque")]
    found = {name: value for name, value in values.items() if name in known}
    if asked.n is not None:
        found["count"] = asked.n
    if asked.size not in (None, "auto"):
        # OpenAI has the width first.
        width, height = map(int, re.findall(r"\d+", asked.size or ""))
        found["size"] = (height, width)
    if (preset := QUALITIES.get(asked.quality or "")) is not None and "preset" not in found:
        if preset in served.bundle.manifest.plan.presets:
            found["preset"] = preset
        else:
            notes.append(f"quality: {served.name} has no preset {preset}, and draws as ever")
    return found


def _pictures_of(served: ServedBundle, body: Body, notes: list[str]) -> Body:
    """A body whose pictures are those that the bundle reads, and whose mask is white where OpenAI's is transparent."""
    reads = pictures_option(served.bundle.manifest)
    if reads is None:
        raise ApiError(400, f"image: {served.name} reads no picture; use /v1/images/generations", "image")
    files, values = dict(body.files), dict(body.values)
    for name in ("image", "mask"):
        if (given := values.pop(name, None)) is not None:
            files[name] = [*files.get(name, ()), *decoded_files(name, given)]
    if "image" in files and reads != "image":
        files[reads] = files.pop("image")
        notes.append(f"image: drawn from as {reads}")
    if "mask" in files:
        masks = [marked_where_transparent(blob) for blob in files["mask"]]
        files["mask"] = [blob for blob, _ in masks]
        notes += ["mask: what is transparent in it is what it marks" for _, changed in masks if changed]
        files[mask_option(reads)] = files.pop("mask")
    return Body(values, files, body.typed)


def _answer(request: Request, service: Service, job: Job, asked: ImagesRequest) -> Response:
    if job.error is not None:
        raise job.error
    if job.result is None:
        raise ApiError(409, "the job was cancelled", None, "cancelled", {"x-should-retry": "false"})
    if asked.response_format == "url":
        data = [{"url": str(request.base_url).rstrip("/") + result_url(job, file)} for file in job.result.pictures]
    else:
        data = [{"b64_json": file.base64} for file in job.result.pictures]
        service.scheduler.forget(job.id)
    seconds = {stage: round(value, 4) for stage, value in job.result.seconds.items()}
    details = {"id": job.id, "seconds": seconds, "warnings": list(job.result.warnings), "texts": list(job.result.texts)}
    return JSONResponse(
        {"created": int(job.created), "data": data, **_echoed(job, asked), "usage": USAGE, "x2i": details}
    )


async def _streamed(job: Job, watched: Watch, kind: str, asked: ImagesRequest) -> AsyncIterator[tuple[str, Any]]:
    shown = 0
    async for event in job.events(watched):
        if event.name == "preview":
            for url in event.data["pictures"]:
                yield _event(f"{kind}.partial_image", job, asked, url.partition(",")[2], partial_image_index=shown)
            shown += 1
    if job.result is None:
        error = job.error or ApiError(409, "the job was cancelled", None, "cancelled")
        yield "error", {"type": "error", **error.body()}
        return
    for file in job.result.pictures:
        more = {"usage": USAGE, "x2i": {"id": job.id, "warnings": list(job.result.warnings)}}
        yield _event(f"{kind}.completed", job, asked, file.base64, **more)


def _left(service: Service, job: Job) -> None:
    """The client went away, or has everything."""
    service.scheduler.cancel(job)
    if job.ended.is_set():
        service.scheduler.forget(job.id)


def _event(name: str, job: Job, asked: ImagesRequest, data: str, **more: Any) -> tuple[str, dict[str, Any]]:
    return name, {"type": name, "b64_json": data, "created_at": int(time.time()), **_echoed(job, asked), **more}


def _echoed(job: Job, asked: ImagesRequest) -> dict[str, Any]:
    height, width = job.asked.request.size
    form = job.asked.picture_format.name
    return {
        "size": f"{width}x{height}",
        "quality": asked.quality or "auto",
        "background": "opaque",
        "output_format": form,
    }


def _model(served: ServedBundle) -> dict[str, Any]:
    created = int(served.bundle.path("manifest.json").stat().st_mtime)
    return {"id": served.name, "object": "model", "created": created, "owned_by": served.bundle.manifest.system}
