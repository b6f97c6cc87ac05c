"""`python -m serving MEASUREMENT BUNDLE`: the server under load; see docs/benchmarks.md."""

import base64
import statistics
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image
from x2i.runtime import load
from x2i.runtime.bundle.reader import open_bundle
from x2i.runtime.machine import cpu_model, package_versions, usable_cores
from x2i.runtime.profiling.job import completed_options

from serving.load import HEAD, put_under_load
from serving.server import GENERATIONS, RunningServer, free_port, running_server, x2i_server

PACKAGES = ("x2i-edge", "onnxruntime", "openvino", "fastapi", "uvicorn", "numpy")
FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
bundle_argument = click.argument("bundle", type=FOLDER)
backend_option = click.option("--backend", default="cpu", show_default=True)
steps_option = click.option("--steps", type=int, help="The bundle's own if left out.")


@click.group()
def serving() -> None:
    """Measure the server: correct first, then how long it takes, beside the same bundle in this process."""
    warnings.simplefilter("ignore")
    versions = ", ".join(f"{name} {version}" for name, version in package_versions(PACKAGES).items())
    click.echo(f"{cpu_model()}, {usable_cores()} cores; {versions}")


@serving.command()
@bundle_argument
@backend_option
@steps_option
@click.option("--pictures", type=int, default=30, show_default=True, help="Of each, in turns.")
@click.option("--side", type=int, help="Pixels of a square picture; the bundle's own size if left out.")
def overhead(bundle: Path, backend: str, steps: int | None, pictures: int, side: int | None) -> None:
    """What HTTP adds to a picture of one client."""
    asked = usual_request(bundle, steps) | ({} if side is None else {"size": (side, side)})
    pipeline = load(bundle, backend)
    with x2i_server([bundle], "--backend", backend) as server, server.kept() as post:
        ours: list[float] = []
        theirs: list[float] = []
        for number in range(pictures + 1):
            # Another prompt each time: what is kept of an earlier one would hide what HTTP adds.
            own: dict[str, Any] = {**asked, "seed": number, "prompt": f"{asked['prompt']} {number}"}
            began = time.perf_counter()
            expected = pipeline(**own).images[0]
            inside = time.perf_counter() - began
            # OpenAI has its own word for a size, which is the same for a square.
            square = {} if side is None else {"size": f"{side}x{side}"}
            answer = post(GENERATIONS, _fields(own) | square)
            assert _picture(answer.json()) == _pixels(expected), "another picture than the pipeline's"
            if number:
                # The first of each opens and warms.
                theirs.append(inside)
                ours.append(answer.seconds)
    added = [ours[number] - theirs[number] for number in range(pictures)]
    inside, outside = statistics.median(theirs), statistics.median(ours)
    click.echo(
        f"in process {inside:.4f} s ({min(theirs):.4f} to {max(theirs):.4f}), over HTTP {outside:.4f} s "
        f"({min(ours):.4f} to {max(ours):.4f}); in pairs {statistics.median(added) * 1000:+.1f} ms, "
        f"{statistics.median(added) / inside:+.2%} of a picture"
    )


@serving.command()
@bundle_argument
@backend_option
@steps_option
@click.option("--clients", type=int, multiple=True, default=(1, 4, 16, 64), show_default=True)
@click.option("--requests", type=int, default=64, show_default=True, help="Of each number of clients.")
def throughput(bundle: Path, backend: str, steps: int | None, clients: tuple[int, ...], requests: int) -> None:
    """Pictures a second and how long each took: in process by as many threads, over HTTP one by one, and with steps
    shared as measured."""
    asked = usual_request(bundle, steps)
    click.echo(HEAD)
    pipeline = load(bundle, backend)
    for number in clients:
        seen = put_under_load(number, requests, lambda seed: bool(pipeline(**asked, seed=seed).images))
        click.echo(seen.row("in process, a thread a client"))
    for name, options in (("server, one by one", ()), ("server, steps shared", ("--measure",))):
        with _fresh_measurement(bundle), x2i_server([bundle], "--backend", backend, *options) as server:
            _draws_right(server, pipeline, asked)
            for number in clients:
                seen = put_under_load(number, requests, lambda seed: _drawn(server, asked, seed))
                click.echo(seen.row(name))
            click.echo(
                f"calls of the network, by how many jobs shared one: {_metric(server, 'x2i_network_calls_total')}"
            )


@serving.command()
@bundle_argument
@backend_option
@click.option("--requests", type=int, default=2000, show_default=True)
@click.option("--steps", type=int, default=2, show_default=True)
@click.option("--clients", type=int, default=8, show_default=True)
def soak(bundle: Path, backend: str, requests: int, steps: int, clients: int) -> None:
    """Memory over many requests, one in ten cancelled on the way and one in twenty broken."""
    asked = usual_request(bundle, steps)
    with x2i_server([bundle], "--backend", backend) as server:

        def work(number: int) -> bool:
            if number % 10 == 3:
                job = server.post("/x2i/v1/jobs", {"prompt": asked.get("prompt"), "options": _options(asked)}).json()
                return server.post(f"/x2i/v1/jobs/{job['id']}/cancel", {}).status == 200
            if number % 20 == 7:
                return server.post(GENERATIONS, _fields(asked) | {"size": "63x61"}).status == 400
            return _drawn(server, asked, number)

        for part in range(5):
            seen = put_under_load(clients, requests // 5, work)
            done = (part + 1) * requests // 5
            click.echo(f"after {done} requests: {server.memory / 1e6:.0f} MB, {seen.failed} failed")


@serving.command()
@bundle_argument
@backend_option
@click.option("--pictures", type=int, default=10, show_default=True)
def reuse(bundle: Path, backend: str, pictures: int) -> None:
    """What a subject costs that was encoded before: the stage `encode` of its first picture and of its second."""
    asked = usual_request(bundle, None)
    with x2i_server([bundle], "--backend", backend) as server:
        server.post(GENERATIONS, _fields(asked) | {"prompt": "warm"})
        first: list[tuple[float, float]] = []
        again: list[tuple[float, float]] = []
        for number in range(pictures):
            fields = _fields({name: _another(value, number + 1) for name, value in asked.items()})
            for seconds in (first, again):
                told = server.post(GENERATIONS, fields).json()["x2i"]["seconds"]
                seconds.append((told["encode"], told["total"]))
        encode = [statistics.median(each[0] for each in seconds) for seconds in (first, again)]
        total = [statistics.median(each[1] for each in seconds) for seconds in (first, again)]
        click.echo(
            f"encode {encode[0] * 1000:.1f} ms, again {encode[1] * 1000:.1f} ms; a picture {total[0]:.3f} s, again "
            f"{total[1]:.3f} s: {total[0] / total[1]:.2f} times as fast"
        )


@serving.command()
@bundle_argument
@backend_option
@click.option("--times", type=int, default=20, show_default=True)
def cancel(bundle: Path, backend: str, times: int) -> None:
    """Seconds from a cancel to a worker that is free, beside those of a step."""
    asked = usual_request(bundle, 200)
    with x2i_server([bundle], "--backend", backend) as server:
        waited: list[float] = []
        for _ in range(times):
            job = server.post("/x2i/v1/jobs", {"prompt": asked.get("prompt"), "options": _options(asked)}).json()
            while server.get(f"/x2i/v1/jobs/{job['id']}").json()["step"] < 3:
                time.sleep(0.005)
            began = time.perf_counter()
            server.post(f"/x2i/v1/jobs/{job['id']}/cancel", {})
            while server.get(f"/x2i/v1/jobs/{job['id']}").json()["state"] == "running":
                time.sleep(0.001)
            waited.append(time.perf_counter() - began)
        _drawn(server, usual_request(bundle, 20), 0)
        steps = _metric(server, "x2i_step_seconds_sum"), _metric(server, "x2i_step_seconds_count")
        step = sum(steps[0].values()) / sum(steps[1].values())
        click.echo(
            f"from a cancel to a free worker: median {statistics.median(waited) * 1000:.1f} ms, longest "
            f"{max(waited) * 1000:.1f} ms; a step takes {step * 1000:.1f} ms"
        )


@serving.command()
@bundle_argument
@click.option("--program", type=click.Path(exists=True, dir_okay=False), required=True, help="sd-server, built.")
@click.option("--model", type=click.Path(exists=True), required=True, help="The same weights, as it reads them.")
@click.option("--type", "kind", default="q8_0", show_default=True)
@click.option("--side", type=int, default=256, show_default=True)
@click.option("--steps", type=int, default=2, show_default=True)
@click.option("--requests", type=int, default=3, show_default=True)
@click.option("--backend", default="openvino", show_default=True)
def sdcpp(
    bundle: Path, program: str, model: str, kind: str, side: int, steps: int, requests: int, backend: str
) -> None:
    """stable-diffusion.cpp's server and this one at a size that both load, a client after the other."""
    click.echo(HEAD)
    asked = {"prompt": "a b c d e", "size": f"{side}x{side}", "n": 1, "response_format": "b64_json"}
    port = free_port()
    words = [
        program,
        "-m",
        model,
        "--type",
        kind,
        "--listen-port",
        str(port),
        "--steps",
        str(steps),
        "--cfg-scale",
        "7.5",
    ]
    with running_server([*words, "--sampling-method", "euler"], port, "/v1/models") as server:
        for _ in range(2):
            seen = put_under_load(1, requests, lambda seed: server.post(GENERATIONS, asked).status == 200)
        click.echo(seen.row(f"stable-diffusion.cpp's server, {kind}") + f" {server.memory / 1e9:.1f} GB")
    asked |= {"steps": steps, "guidance": 7.5, "sampler": "euler"}
    with x2i_server([bundle], "--backend", backend) as server:
        for _ in range(2):
            seen = put_under_load(
                1, requests, lambda seed: server.post(GENERATIONS, {**asked, "seed": seed}).status == 200
            )
        click.echo(seen.row(f"x2i serve, {bundle.name} on {backend}") + f" {server.memory / 1e9:.1f} GB")


def usual_request(bundle: Path, steps: int | None) -> dict[str, Any]:
    """Keywords of a call that draws with a bundle, with stand-ins for the pictures that it reads."""
    given = {} if steps is None else {"steps": steps}
    return completed_options(open_bundle(bundle), given)[0]


def _fields(asked: dict[str, Any]) -> dict[str, Any]:
    """The same as fields of OpenAI's interface."""
    return {"prompt": asked.get("prompt", ""), **_options(asked)}


def _options(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: _sent(value) for name, value in asked.items() if name != "prompt"}


def _sent(value: Any) -> Any:
    """A value as JSON has it: pictures in base64."""
    if isinstance(value, list | tuple):
        return [_sent(each) for each in value]
    if hasattr(value, "dtype"):
        stream = BytesIO()
        Image.fromarray(value).save(stream, "PNG")
        return base64.b64encode(stream.getvalue()).decode()
    return value


def _another(value: Any, number: int) -> Any:
    """Another prompt, or another picture, for each number."""
    if isinstance(value, list | tuple):
        return [_another(each, number) for each in value]
    return np.roll(value, number, axis=0) if isinstance(value, np.ndarray) else value


def _drawn(server: RunningServer, asked: dict[str, Any], seed: int) -> bool:
    return server.post(GENERATIONS, _fields(asked) | {"seed": seed}).status == 200


def _draws_right(server: RunningServer, pipeline: Any, asked: dict[str, Any]) -> None:
    answer = server.post(GENERATIONS, _fields(asked) | {"seed": 5}).json()
    assert _picture(answer) == _pixels(pipeline(**asked, seed=5).images[0]), "another picture than the pipeline's"


def _picture(answer: Any) -> bytes:
    return _pixels(Image.open(BytesIO(base64.b64decode(answer["data"][0]["b64_json"]))))


def _pixels(image: Image.Image) -> bytes:
    return image.convert("RGB").tobytes()


def _metric(server: RunningServer, name: str) -> dict[str, float]:
    """The values of a counter by their labels."""
    lines = server.get("/metrics").body.decode().splitlines()
    found = (line.rpartition(" ") for line in lines if line.startswith(f"{name}{{"))
    return {labels.removeprefix(name): float(value) for labels, _, value in found}


@contextmanager
def _fresh_measurement(bundle: Path) -> Iterator[None]:
    """Without what was measured of the bundle before."""
    for file in (bundle / "engines").glob("batch-*.json"):
        file.unlink()
    yield


if __name__ == "__main__":
    serving()
