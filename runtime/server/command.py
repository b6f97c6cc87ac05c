"""`x2i serve`: an HTTP server of some bundles."""

import logging
import os
import socket
import sys
import traceback
import warnings
from pathlib import Path
from socket import gethostname
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ..commands.console import command
from ..commands.options import FILE, Size, backend_option, threads_option
from ..errors import InputError, one_line, reason
from ..memory_limit import parsed_size
from .cluster.settings import cluster_options, cluster_settings
from .settings import ServerLimits, ServerSettings

if TYPE_CHECKING:
    from .service import Service

KEY_VARIABLE = "X2I_API_KEY"
"""Environment variable that holds the key where the command line does not: what stands there, every user can read."""
BACKLOG = 1024
"""Connections that the system keeps while none is taken."""
log = logging.getLogger("x2i.server")


@command()
@click.argument("bundles", type=FILE, nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is every one.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes a free one."
)
@click.option("--socket", "path", type=FILE, help="Unix socket to listen at instead, for programs of the same user.")
@backend_option
@threads_option
@click.option("--max-memory", help="Memory for bundles, such as 8GB: others are closed for the one that is drawn with.")
@click.option("--lanes", type=click.IntRange(1, 16), default=1, show_default=True, help="Bundles drawn with at a time.")
@click.option("--measure", is_flag=True, help="Measure first how many pictures share a step fastest, and keep it.")
@click.option("--measure-size", type=Size(), multiple=True, help="Measure at this size too; may be given again.")
@click.option("--api-key", envvar=KEY_VARIABLE, show_envvar=True, help="Key that clients must send.")
@click.option("--queue", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Jobs that may wait.")
@click.option("--time-limit", type=click.FloatRange(1), default=600, show_default=True, help="Seconds of one job.")
@click.option("--keep", type=click.FloatRange(1), default=600, show_default=True, help="Seconds that results stay.")
@click.option("--max-body", default="32MiB", show_default=True, help="Bytes of one request.")
@click.option("--max-pixels", type=click.IntRange(64), default=2**24, show_default=True, help="Pixels of one picture.")
@click.option("--drain", type=click.FloatRange(0), default=30, show_default=True, help="Seconds jobs get at the end.")
@click.option("--cors", multiple=True, help="Origin of another's page that may call, such as https://example.org.")
@click.option("--tls-cert", type=FILE, help="Certificate chain in PEM, for HTTPS.")
@click.option("--tls-key", type=FILE, help="Its key in PEM.")
@click.option("--log-prompts", is_flag=True, help="Write prompts to the access log.")
@cluster_options
def serve(
    bundles: tuple[Path, ...],
    host: str,
    port: int,
    path: Path | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    measure: bool,
    measure_size: tuple[tuple[int, int], ...],
    **chosen: Any,
) -> None:
    """Draw with BUNDLES for whoever asks over HTTP: OpenAI's image interface, jobs, AUTOMATIC1111's, and a page."""
    try:
        import uvicorn

        from .app import create_app
        from .cluster.cluster_drawer import ClusterDrawer
        from .connections import uvicorn_config
        from .models.bundles import measure_bundles
    except ImportError as error:
        raise InputError(f"x2i serve needs {error.name}: pip install 'x2i-edge[server]'") from error
    if (tls_cert is None) != (tls_key is None):
        raise InputError("--tls-cert and --tls-key: expected both or none, got one; give the other, too")
    _check_places(path)
    settings, cluster = _settings(bundles, chosen), cluster_settings(chosen, f"x2i-{gethostname()}-{port}")
    _log_to_streams(settings.log_prompts)
    # What a run warns of, its answer tells; here it would name prompts.
    warnings.simplefilter("ignore", UserWarning)
    if measure or measure_size:
        for line in measure_bundles(bundles, settings.backend, settings.threads, measure_size):
            click.echo(line)
    with _listening(host, port) if path is None else _listening_at(path) as listener:
        app = create_app(settings, None if cluster is None else ClusterDrawer(settings, cluster))
        service: Service = app.state.service

        class Server(uvicorn.Server):
            """Goes on answering while jobs end, after a signal to stop; a second one ends them."""

            def handle_exit(self, sig: int, frame: FrameType | None) -> None:
                if service.scheduler.stopping is None:
                    service.scheduler.stop()
                else:
                    self.should_exit = self.force_exit = True

            async def on_tick(self, counter: int) -> bool:
                stopped = service.scheduler.stopping is not None and service.scheduler.stopped(settings.drain_seconds)
                return await super().on_tick(counter) or stopped or service.failure is not None

        config = uvicorn_config(app, settings.limits, tls_cert, tls_key)
        scheme = "http" if tls_cert is None else "https"
        place = path or "{}:{}".format(*listener.getsockname()[:2])
        log.info("listening at %s://%s", scheme, place)
        Server(config).run([listener])
    if path is not None:
        path.unlink(missing_ok=True)
    if service.failure is not None:
        raise service.failure


def _listening(host: str, port: int) -> socket.socket:
    """A socket at an address. Raises InputError where there is none, or another program listens."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except (OSError, TypeError, UnicodeError) as error:
        # A name that no network spells is of another type to Python, or no text.
        why = reason(error).partition(" (")[0]
        expected = "--host and --port: expected an address of this machine and a port that is free"
        raise InputError(f"{expected}, got {one_line(host, 60)}:{port} ({why}); choose others") from error


def _check_places(path: Path | None) -> None:
    """Raises InputError for a socket beside an address."""
    source = click.get_current_context().get_parameter_source
    given = [name for name in ("host", "port") if source(name) is not ParameterSource.DEFAULT]
    if path is not None and given:
        raise InputError(f"--socket: expected it alone, got --{given[0]} with it; leave one of the two out")


def _listening_at(path: Path) -> socket.socket:
    """A Unix socket at a path that its owner alone may use. One that a server left behind is taken away. Raises
    InputError where another server listens, or something else stands there, or nothing may."""
    listener: socket.socket | None = None
    try:
        listener, probe = (socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) for _ in range(2))
        with probe:
            if path.is_socket() and probe.connect_ex(str(path)) != 0:
                path.unlink()
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
    except (OSError, AttributeError, UnicodeError, ValueError) as error:
        # Not every system has such sockets, and the system's paths are shorter than those of files.
        if listener is not None:
            listener.close()
        expected = "--socket: expected a path where nothing is, of at most some 100 bytes"
        raise InputError(f"{expected}, got {one_line(str(path), 160)} ({reason(error)}); choose another") from error
    return listener


def _settings(bundles: tuple[Path, ...], chosen: dict[str, Any]) -> ServerSettings:
    memory = chosen["max_memory"]
    limits = ServerLimits(
        waiting=chosen["queue"],
        body_bytes=parsed_size(chosen["max_body"], "max_body"),
        pixels=chosen["max_pixels"],
        seconds=chosen["time_limit"],
        keep_seconds=chosen["keep"],
    )
    return ServerSettings(
        bundles=bundles,
        backend=chosen["backend"],
        threads=chosen["threads"],
        max_memory=None if memory is None else parsed_size(memory),
        lanes=chosen["lanes"],
        key=chosen["api_key"] or None,
        drain_seconds=chosen["drain"],
        origins=chosen["cors"],
        log_prompts=chosen["log_prompts"],
        limits=limits,
    )


class _DiscreetFormatter(logging.Formatter):
    """Tells of an exception where it was raised and of which class, but not what it says: that may hold a prompt."""

    def formatException(self, ei: Any) -> str:
        """The innermost last, as Python has it."""
        lines, error = list[str](), ei[1]
        while error is not None:
            lines[:0] = ["Traceback:\n", *traceback.format_tb(error.__traceback__), f"{type(error).__name__}\n"]
            error = error.__cause__ or error.__context__
        return "".join(lines).rstrip()


def _log_to_streams(prompts: bool) -> None:
    """Requests to stdout as JSON, everything else to stderr."""
    stderr = logging.StreamHandler(sys.stderr)
    stderr.setFormatter((logging.Formatter if prompts else _DiscreetFormatter)("x2i: %(levelname)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[stderr], force=True)
    access = logging.getLogger("x2i.access")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    access.addHandler(handler)
    access.propagate = False
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
