"""`x2i serve`: an HTTP server of some bundles."""

import logging
import os
import ssl
import sys
import warnings
from pathlib import Path
from socket import gethostname
from types import FrameType
from typing import Any

import click

from ..commands.console import command
from ..commands.options import FILE, Size, backend_option, threads_option
from ..errors import InputError
from ..memory_limit import parsed_size
from .cluster.settings import cluster_options, cluster_settings
from .settings import ServerLimits, ServerSettings

KEY_VARIABLE = "X2I_API_KEY"
"""Environment variable that holds the key where the command line does not: what stands there, every user can read."""


@command()
@click.argument("bundles", type=FILE, nargs=-1, required=True)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 is every one.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 takes a free one."
)
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
        from .models.bundles import measure_bundles
    except ImportError as error:
        raise InputError(f"x2i serve needs {error.name}: pip install 'x2i-edge[server]'") from error
    if (tls_cert is None) != (tls_key is None):
        raise InputError("--tls-cert and --tls-key: expected both or none, got one; give the other, too")
    settings, cluster = _settings(bundles, chosen), cluster_settings(chosen, f"x2i-{gethostname()}-{port}")
    _log_to_streams()
    # What a run warns of, its answer tells; here it would name prompts.
    warnings.simplefilter("ignore", UserWarning)
    if measure or measure_size:
        for line in measure_bundles(bundles, settings.backend, settings.threads, measure_size):
            click.echo(line)
    drawer = None if cluster is None else ClusterDrawer(settings, cluster)
    app = create_app(settings, drawer)
    if drawer is not None:
        drawer.start()

    class Server(uvicorn.Server):
        """Says that it stops before it does, so that whoever balances load sends no more."""

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            app.state.service.scheduler.draining = True
            super().handle_exit(sig, frame)

    config = uvicorn.Config(
        app,
        host,
        port,
        log_config=None,
        access_log=False,
        server_header=False,
        ssl_certfile=tls_cert,
        ssl_keyfile=None if tls_key is None else str(tls_key),
        timeout_graceful_shutdown=max(1, round(settings.drain_seconds)),
    )
    try:
        Server(config).run()
    except ssl.SSLError as error:
        raise InputError(
            f"--tls-cert: expected a certificate and its key in PEM, got others ({error.reason})"
        ) from error


def _settings(bundles: tuple[Path, ...], chosen: dict[str, Any]) -> ServerSettings:
    memory = chosen["max_memory"]
    limits = ServerLimits(
        waiting=chosen["queue"],
        body_bytes=parsed_size(chosen["max_body"]),
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


def _log_to_streams() -> None:
    """Requests to stdout as JSON, everything else to stderr."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="x2i: %(levelname)s: %(message)s", force=True)
    access = logging.getLogger("x2i.access")
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(logging.Formatter("%(message)s"))
    access.addHandler(handler)
    access.propagate = False
    logging.getLogger("uvicorn.error").setLevel(os.environ.get("X2I_LOG", "INFO"))
