"""What a server is started with, and what it allows: lengths, sizes and times, each with its usual value."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """`waiting` jobs may stand in the queue; a request's body has at most `body_bytes`, a picture in it at most
    `pixels`, and so have the pictures of one request together; a job ends within `seconds` of its request; results stay
    for `keep_seconds`, and no more than `keep_bytes` of them; one request draws at most `pictures` in at most `steps`
    steps from prompts of at most `prompt_length` characters. `encodings_bytes` of encoded prompts, subjects and sounds
    are kept for each bundle. At most `connections` stand at once; one of them has `head_seconds` to send the head of a
    request, and its body `body_seconds` beyond what a slow line takes; all bodies that are being read have at most
    `reading_bytes` together, or as many as one may have."""

    waiting: int = 64
    body_bytes: int = 32 * 2**20
    pixels: int = 2**24
    seconds: float = 600.0
    keep_seconds: float = 600.0
    keep_bytes: int = 512 * 2**20
    pictures: int = 10
    steps: int = 1000
    prompt_length: int = 32_000
    encodings_bytes: int = 256 * 2**20
    connections: int = 512
    head_seconds: float = 15.0
    body_seconds: float = 15.0
    reading_bytes: int = 128 * 2**20


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """What a server is started with: `bundles` are folders; `key` is what clients must send, None where nothing;
    `lanes` bundles are drawn with at a time; `max_memory` is in bytes; `drain_seconds` is how long jobs may still take
    when the server stops; `origins` are the web pages of others that may call it; prompts are logged with
    `log_prompts`."""

    bundles: tuple[Path, ...]
    backend: str | None = None
    threads: int | None = None
    max_memory: int | None = None
    lanes: int = 1
    key: str | None = None
    drain_seconds: float = 30.0
    origins: tuple[str, ...] = ()
    log_prompts: bool = False
    limits: ServerLimits = field(default_factory=ServerLimits)
