"""x2i's own interface: jobs that are submitted, watched, cancelled and fetched, and what each bundle takes."""

from collections.abc import AsyncIterator, Sequence
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ..jobs.job import ENDED, Job, ResultFile, Watch
from ..models.bundles import ServedBundle
from ..refusals import ApiError
from ..service import Service
from ..settings import ServerLimits
from .body import Body, json_object, read_body
from .clients import client_of, service_of
from .events import EventStream
from .schema import FORM, JOB, JSON, REFUSALS, answers, body_of, bundle_options, needed_options, prompt_schema

router = APIRouter(prefix="/x2i/v1", tags=["x2i"])
FIELDS = ("bundle", "prompt", "options", "previews")
MOST_PREVIEWS = 100


def job_body(served: Sequence[ServedBundle], limits: ServerLimits, kind: str) -> dict[str, Any]:
    """A job of each bundle as JSON Schema; the first is drawn with where none is named."""
    if kind == FORM:
        return {"type": "object", "required": ["request"], "properties": {"request": {"type": "string"}}}
    jobs = []
    for number, bundle in enumerate(served):
        prompt, needed = prompt_schema([bundle], limits), needed_options(bundle)
        needs = {"bundle": number > 0, "prompt": prompt["type"] == "string", "options": bool(needed)}
        options = {"required": needed, "properties": bundle_options(bundle, limits)}
        fields = {
            "bundle": {"const": bundle.name},
            "prompt": prompt,
            "options": {"type": "object", "additionalProperties": False, **options},
            "previews": {"type": "integer", "minimum": 0, "maximum": MOST_PREVIEWS, "default": 0},
        }
        required = [name for name in needs if needs[name]]
        jobs.append({"type": "object", "additionalProperties": False, "required": required, "properties": fields})
    return jobs[0] if len(jobs) == 1 else {"oneOf": jobs}


@router.get("/capabilities", responses=REFUSALS)
async def get_capabilities(request: Request) -> dict[str, Any]:
    """What each bundle reads, its options with their ranges, its presets and sizes, and the server's limits."""
    service = service_of(request)
    limits = service.limits
    names = ("waiting", "body_bytes", "pixels", "seconds", "keep_seconds", "pictures", "steps", "prompt_length")
    return {
        "version": version("x2i-edge"),
        "limits": {name: getattr(limits, name) for name in names},
        "bundles": [served.capabilities() for served in service.bundles],
    }


@router.post("/jobs", status_code=202, responses=answers(202, JOB), openapi_extra=body_of(JSON, FORM))
async def submit_job(request: Request) -> Response:
    """A new job; a form has it as JSON in the field `request`, beside files named by their options."""
    service, body = service_of(request), await read_body(request)
    asked = body.values
    if not body.typed:
        if list(asked) != ["request"] or not isinstance(asked["request"], str):
            raise ApiError(400, "request: expected this one field, with the job as JSON, beside files", "request")
        asked = json_object(asked["request"].encode(), "request")
    if unknown := [name for name in asked if name not in FIELDS]:
        raise ApiError(
            400, f"{unknown[0][:100]}: expected {', '.join(FIELDS)}, got this name; leave it out", unknown[0]
        )
    options, previews = asked.get("options"), asked.get("previews", 0)
    options = {} if options is None else options
    if not isinstance(options, dict):
        raise ApiError(400, "options: expected an object of options by name, got another value", "options")
    if type(previews) is not int or not 0 <= previews <= MOST_PREVIEWS:
        raise ApiError(400, f"previews: expected a whole number from 0 to {MOST_PREVIEWS}", "previews")
    served = service.bundle(asked.get("bundle"))
    request.state.prompt = asked.get("prompt")
    checked = await service.ask(served, asked.get("prompt"), Body(options, body.files), previews)
    job = service.submit(checked, client_of(request))
    return JSONResponse(job_view(service, job), 202, {"Location": f"{router.prefix}/jobs/{job.id}"})


@router.get("/jobs/{job_id}", responses=answers(200, JOB))
async def get_job(request: Request, job_id: str) -> dict[str, Any]:
    """How far a job is, and what came of it."""
    service = service_of(request)
    return job_view(service, service.scheduler.find(job_id))


@router.post("/jobs/{job_id}/cancel", responses=answers(200, JOB))
async def cancel_job(request: Request, job_id: str) -> dict[str, Any]:
    """Ends a job: at once where it waits, within one step where it is drawn."""
    service = service_of(request)
    job = service.scheduler.find(job_id)
    service.scheduler.cancel(job)
    return job_view(service, job)


@router.get("/jobs/{job_id}/events", responses={200: {"content": {"text/event-stream": {}}}, **REFUSALS})
async def watch_job(request: Request, job_id: str) -> Response:
    """Server-sent events: job, step and preview, until the job has ended."""
    service = service_of(request)
    job = service.scheduler.find(job_id)
    watch = job.watch()
    return EventStream(_events(service, job, watch), lambda: job.leave(watch))


@router.get("/results/{job_id}/{name}", responses={200: {"content": {"image/png": {}, "audio/wav": {}}}, **REFUSALS})
async def get_result(request: Request, job_id: str, name: str) -> Response:
    """A picture or a sound that a job gave; with `?download` a browser saves it."""
    result = service_of(request).scheduler.find(job_id).result
    files = () if result is None else (*result.pictures, *result.sounds)
    file = next((each for each in files if each.name == name), None)
    if file is None:
        raise ApiError(404, "name: expected the name of a result of this job, got another; see the job", "name")
    headers = {"Cache-Control": "private, max-age=600", "X-Content-Type-Options": "nosniff"}
    if "download" in request.query_params:
        headers["Content-Disposition"] = f'attachment; filename="{job_id[:8]}-{name}"'
    return Response(file.data, media_type=file.media_type, headers=headers)


def job_view(service: Service, job: Job) -> dict[str, Any]:
    """A job as JSON: see docs/serving.md."""
    scheduler, left = service.scheduler, service.scheduler.seconds_left(job)
    return {
        "id": job.id,
        "bundle": job.asked.bundle,
        "state": job.state,
        "created": round(job.created, 3),
        "position": scheduler.position(job),
        "step": job.step,
        "steps": job.steps,
        "seconds_left": None if left is None or job.state in ENDED else round(left, 3),
        "error": None if job.error is None else job.error.body()["error"],
        "result": None if job.result is None else _result_view(service, job),
    }


def result_url(job: Job, file: ResultFile) -> str:
    """Where a result is fetched; whoever knows it may."""
    return f"{router.prefix}/results/{job.id}/{file.name}"


def _result_view(service: Service, job: Job) -> dict[str, Any]:
    result = job.result
    assert result is not None and job.ended_at is not None
    return {
        "pictures": [{"url": result_url(job, file), **file.facts} for file in result.pictures],
        "sounds": [{"url": result_url(job, file), **file.facts} for file in result.sounds],
        "texts": list(result.texts),
        "tokens": result.tokens,
        "warnings": list(result.warnings),
        "seconds": {stage: round(seconds, 4) for stage, seconds in result.seconds.items()},
        "expires": round(job.ended_at + service.limits.keep_seconds, 3),
    }


async def _events(service: Service, job: Job, watch: Watch) -> AsyncIterator[tuple[str, Any]]:
    yield "job", job_view(service, job)
    if job.preview is not None and job.state == "running":
        yield "preview", job.preview
    if job.state in ENDED:
        return
    async for event in job.events(watch):
        yield event.name, job_view(service, job) if event.name == "job" else event.data
