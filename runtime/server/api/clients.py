"""Who asks: whom the queue is fair to, and whether the connection still stands."""

import asyncio
from typing import Any

from fastapi import Request

from ..jobs.job import Job
from ..service import Service

GONE_SECONDS = 0.1
"""How often a connection is looked at: nothing tells a handler that its client went away."""


def service_of(request: Request) -> Service:
    """The server's parts."""
    service: Service = request.app.state.service
    return service


def client_of(request: Request, user: Any = None) -> str:
    """The address that asks, and whom it says to ask for."""
    host = request.client.host if request.client is not None else ""
    return f"{host} {user}" if isinstance(user, str) and user else host


async def ended_or_gone(request: Request, service: Service, job: Job) -> bool:
    """Waits for a job; False where the client went away first, and its job is cancelled."""
    ended = asyncio.ensure_future(job.ended.wait())
    try:
        while not job.ended.is_set():
            await asyncio.wait([ended], timeout=GONE_SECONDS)
            if not job.ended.is_set() and await request.is_disconnected():
                service.scheduler.cancel(job)
                return False
    finally:
        ended.cancel()
    return True
