"""AUTOMATIC1111's interface, as far as clients need it that know no other."""

import json
import secrets
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from ...errors import InputError, one_line
from ...inputs.option import short
from ...inputs.pictures.start import StartInput
from ...media.parameters import SAMPLER_TITLES
from ...samplers.registry import SAMPLERS
from ..bodies import body_read
from ..jobs.job import Job
from ..models.bundles import ServedBundle
from ..models.capabilities import mask_option, pictures_option
from ..refusals import CLIENT_CLOSED, ApiError
from ..settings import ServerLimits
from .body import Body, read_body
from .clients import client_of, ended_or_gone, service_of
from .options import sent_options
from .schema import JSON, REFUSALS, any_options, body_of, needed_fields, prompt_schema

router = APIRouter(prefix="/sdapi/v1", tags=["AUTOMATIC1111"])
SAMPLER_NAMES = {title: own for own, title in SAMPLER_TITLES.items() if own not in ("ddim_compvis", "dpmpp_2m_karras")}
"""Its words for samplers, and ours."""
SIGMAS = {"karras": "karras", "exponential": "exponential", "beta": "beta", "automatic": None, "": None}
"""Its words for schedules, and ours; None leaves it to the bundle."""
SAME = {"negative_prompt": "negative", "steps": "steps", "cfg_scale": "guidance"}
"""Its fields whose values are an option's."""
HEEDED = {
    *SAME,
    "prompt",
    "seed",
    "width",
    "height",
    "batch_size",
    "n_iter",
    "sampler_name",
    "sampler_index",
    "scheduler",
}
FILES_SENT = {"init_images", "mask"}
HEEDED |= FILES_SENT | {"override_settings", "denoising_strength", "send_images", "include_init_images"}
RANDOM_SEEDS = 2**32
PREVIEWS = 5
"""Of one job: whoever polls for its progress may see them."""
DRAWN: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/json": {"schema": {"type": "object"}}}},
    **REFUSALS,
}


def drawing_body(served: Sequence[ServedBundle], limits: ServerLimits, kind: str) -> dict[str, Any]:
    """Its fields that are heeded as JSON Schema, and the options of these bundles under our names."""
    options, file = any_options(served, limits, kind), {"type": "string", "contentEncoding": "base64"}
    same = {name: options[own] for name, own in SAME.items() if own in options}
    counts = {name: {"type": "integer", "minimum": 1, "maximum": limits.pictures} for name in ("batch_size", "n_iter")}
    sides = {name: {"type": "integer", "minimum": 8, "maximum": 16384} for name in ("width", "height")}
    fields = {
        "prompt": prompt_schema(served, limits),
        "seed": {"type": "integer", "minimum": -1, "maximum": 2**63 - 1},
        "sampler_name": {"enum": list(SAMPLER_NAMES)},
        "scheduler": {"enum": [word for word in SIGMAS if word]},
        "denoising_strength": {"type": "number", "minimum": 0, "maximum": 1},
        "init_images": {"type": "array", "items": file},
        "mask": file,
        "override_settings": options_body(served, limits, kind),
        "send_images": {"type": "boolean"},
    }
    return {
        "type": "object",
        "required": needed_fields(served),
        "properties": {**options, **same, **counts, **sides, **fields},
    }


def options_body(served: Sequence[ServedBundle], limits: ServerLimits, kind: str) -> dict[str, Any]:
    """Its settings as JSON Schema."""
    names = [each.name for each in served]
    return {"type": "object", "properties": {"sd_model_checkpoint": {"enum": [*names, "", None]}}}


@router.post("/txt2img", responses=DRAWN, openapi_extra=body_of(JSON))
async def draw_text(request: Request) -> Response:
    """Pictures of a prompt."""
    return await _draw(request)


@router.post("/img2img", responses=DRAWN, openapi_extra=body_of(JSON))
async def draw_image(request: Request) -> Response:
    """Pictures from pictures: the one to redraw, or those of a subject or reference, as the bundle reads them."""
    return await _draw(request, from_pictures=True)


@router.get("/progress", responses=REFUSALS)
async def tell_progress(request: Request, skip_current_image: bool = False) -> dict[str, Any]:
    """How far the oldest of this interface's jobs is."""
    job, jobs = _current(request), _jobs(request)
    if job is None:
        state = {"job_count": 0, "sampling_step": 0, "sampling_steps": 0, "interrupted": False}
        return {"progress": 0.0, "eta_relative": 0.0, "state": state, "current_image": None, "textinfo": None}
    shown = None if skip_current_image or job.preview is None else job.preview["pictures"]
    left = service_of(request).scheduler.seconds_left(job)
    return {
        "progress": job.step / job.steps if job.steps else 0.0,
        "eta_relative": round(left or 0.0, 3),
        "state": {
            "job_count": len(jobs),
            "sampling_step": job.step,
            "sampling_steps": job.steps or 0,
            "interrupted": job.stop.is_set(),
        },
        "current_image": shown[0].partition(",")[2] if shown else None,
        "textinfo": None,
    }


@router.post("/interrupt", responses=REFUSALS)
async def interrupt(request: Request) -> dict[str, Any]:
    """Cancels what this interface's client has drawn."""
    client = client_of(request)
    for job in [job for job in _jobs(request) if job.client == client]:
        service_of(request).scheduler.cancel(job)
    return {}


@router.get("/options", responses=REFUSALS)
async def get_options(request: Request) -> dict[str, Any]:
    """The settings that a client looks for: the bundle."""
    return {"sd_model_checkpoint": _chosen(request).name}


@router.post("/options", responses=REFUSALS, openapi_extra=body_of(JSON))
async def set_options(request: Request) -> dict[str, Any]:
    """Chooses the bundle that is drawn with where a request names none."""
    values = (await read_body(request)).values
    if "sd_model_checkpoint" in values:
        request.app.state.automatic1111_bundle = service_of(request).bundle(values["sd_model_checkpoint"]).name
    return {}


@router.get("/samplers", responses=REFUSALS)
async def list_samplers() -> list[dict[str, Any]]:
    """Samplers by its names."""
    return [{"name": name, "aliases": [own], "options": {}} for name, own in SAMPLER_NAMES.items()]


@router.get("/sd-models", responses=REFUSALS)
async def list_bundles(request: Request) -> list[dict[str, Any]]:
    """The bundles, as it lists checkpoints."""
    nothing = {"hash": None, "sha256": None, "config": None}
    return [
        {"title": served.name, "model_name": served.name, "filename": served.name, **nothing}
        for served in service_of(request).bundles
    ]


async def _draw(request: Request, from_pictures: bool = False) -> Response:
    service = service_of(request)
    job, values = await _submitted(request, from_pictures)
    jobs = _jobs(request)
    jobs.append(job)
    try:
        if not await ended_or_gone(request, service, job):
            return Response(status_code=CLIENT_CLOSED)
    finally:
        jobs.remove(job)
    return _answer(request, job, values)


async def _submitted(request: Request, from_pictures: bool) -> tuple[Job, dict[str, Any]]:
    """The job of a request, and those of its fields that are echoed; nothing else of the body is kept."""
    service, body = service_of(request), await read_body(request)
    values = {name: value for name, value in body.values.items() if value is not None}
    if from_pictures and not values.get("init_images"):
        raise ApiError(400, "init_images: expected a list of pictures in base64, got none; send one", "init_images")
    settings = values.get("override_settings")
    named = settings.get("sd_model_checkpoint") if isinstance(settings, dict) else None
    served = _chosen(request) if named is None else service.bundle(named)
    known = sent_options() | HEEDED
    notes = [f"{one_line(name, 100)}: not heeded" for name, value in values.items() if name not in known and value]
    options = _options(values, served)
    request.state.prompt = values.get("prompt")
    checked = await service.ask(served, values.get("prompt"), Body(options), PREVIEWS, notes=notes)
    body_read(request.scope)
    echoed = {name: value for name, value in values.items() if name in HEEDED and name not in FILES_SENT}
    return service.submit(checked, client_of(request)), echoed


def _options(values: dict[str, Any], served: ServedBundle) -> dict[str, Any]:
    """The options of a run that its fields stand for."""
    # Its own clients know none of the names that a bundle's options have here, such as language.
    own_names = sent_options() - HEEDED
    found = {name: value for name, value in values.items() if name in own_names}
    found |= {own: values[name] for name, own in SAME.items() if values.get(name) not in (None, "")}
    seed = values.get("seed", -1)
    found["seed"] = secrets.randbelow(RANDOM_SEEDS) if seed == -1 else seed
    height, width = values.get("height"), values.get("width")
    if height is not None or width is not None:
        usual = served.bundle.manifest.plan.process.canvas.size
        found["size"] = (usual[0] if height is None else height, usual[1] if width is None else width)
    counts = [values.get(name, 1) for name in ("batch_size", "n_iter")]
    if any(type(count) is not int or count < 1 for count in counts):
        raise InputError(f"batch_size and n_iter: expected whole numbers from 1 on, got {short(counts)}; correct them")
    if counts[0] * counts[1] > 1:
        found["count"] = counts[0] * counts[1]
    found |= _sampler(values)
    return found | _pictures(values, served)


def _sampler(values: dict[str, Any]) -> dict[str, Any]:
    """Its samplers' names may end in that of a schedule, as those of older versions do."""
    name = values.get("sampler_name") or values.get("sampler_index")
    schedule = values.get("scheduler") or ""
    if name is None:
        return {}
    if not isinstance(name, str) or not isinstance(schedule, str):
        raise InputError("sampler_name and scheduler: expected names, got other values; see /sdapi/v1/samplers")
    for word in SIGMAS:
        if word and name.lower().endswith(f" {word}"):
            name, schedule = name[: -len(word) - 1], word
    own = SAMPLER_NAMES.get(name, name)
    if own not in SAMPLERS or schedule.lower() not in SIGMAS:
        known = ", ".join(SAMPLER_NAMES)
        got = f"{name[:60]} {schedule[:60]}".strip()
        raise InputError(f"sampler_name: expected one of {known}, with a schedule of {', '.join(SIGMAS)}, got {got}")
    sigmas = SIGMAS[schedule.lower()]
    return {"sampler": own} | ({} if sigmas is None else {"sigmas": sigmas})


def _pictures(values: dict[str, Any], served: ServedBundle) -> dict[str, Any]:
    plan = served.bundle.manifest.plan
    pictures, found = values.get("init_images", []), dict[str, Any]()
    if not isinstance(pictures, list):
        raise InputError(f"init_images: expected a list of pictures in base64, got {short(pictures)}; send one")
    if not pictures:
        return found
    reads = pictures_option(served.bundle.manifest) or "image"
    found[reads] = pictures if reads == "subjects" else pictures[0] if len(pictures) == 1 else pictures
    if values.get("mask") is not None:
        found[mask_option(reads)] = values["mask"]
    if reads == "start" and "denoising_strength" in values:
        found["start_strength"] = values["denoising_strength"]
    # Elsewhere strength says how much a picture adds.
    if plan.find(StartInput) is not None and "strength" in plan.options() and "denoising_strength" in values:
        found["strength"] = values["denoising_strength"]
    return found


def _answer(request: Request, job: Job, values: dict[str, Any]) -> Response:
    if job.error is not None:
        raise job.error
    pictures = () if job.result is None else job.result.pictures
    seed = job.asked.options["seed"]
    height, width = job.asked.request.size
    info = {
        "prompt": job.asked.prompt or "",
        "negative_prompt": job.asked.options.get("negative", ""),
        "seed": seed,
        "all_seeds": [seed + number for number in range(len(pictures))],
        "width": width,
        "height": height,
        "steps": job.asked.steps,
        "sd_model_name": job.asked.bundle,
        "extra_generation_params": {},
        "warnings": [] if job.result is None else list(job.result.warnings),
    }
    images = [file.base64 for file in pictures] if values.get("send_images", True) else []
    service_of(request).scheduler.forget(job.id)
    return JSONResponse({"images": images, "parameters": values, "info": json.dumps(info)})


def _chosen(request: Request) -> ServedBundle:
    return service_of(request).bundle(getattr(request.app.state, "automatic1111_bundle", None))


def _jobs(request: Request) -> list[Job]:
    """This interface's jobs that have not ended, oldest first."""
    if not hasattr(request.app.state, "automatic1111_jobs"):
        request.app.state.automatic1111_jobs = []
    found: list[Job] = request.app.state.automatic1111_jobs
    return found


def _current(request: Request) -> Job | None:
    return next(iter(_jobs(request)), None)
