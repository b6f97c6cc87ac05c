"""What a run's pictures were drawn from, taken down as it begins."""

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from ..bundle.reader import Bundle
from ..inputs.option import Option
from ..inputs.pictures.start_picture import start_share
from ..inputs.registry import run_options
from ..machine import package_version
from ..media.parameters import BundleMark, Parameters, RunValues, Walked
from ..request import Request
from ..samplers.settings import SamplerSettings
from ..token_samplers.masked_decoding import MaskedDecoding
from .given_files import cut_share, given_files, has_shares, plain_name

ALONE = ("count", "seed")
"""Options that are another for a picture than for its run."""
UNKNOWN_VERSION = "unknown"


class RunRecord:
    """The parameters of the pictures of one run: of picture k those with which it alone is drawn again.

    `given` are the caller's options, `text` is the bundle that reads the prompt where it is another. Of several prompts
    `texts` are each with its negative one.
    """

    def __init__(
        self,
        bundle: Bundle,
        text: Bundle | None,
        backend: str,
        prompt: str | None,
        given: Mapping[str, Any],
        request: Request,
        texts: Sequence[tuple[str | None, str]] = (),
    ):
        self._texts = tuple(texts)
        if texts:
            given = {name: value for name, value in given.items() if name != "negative"}
        known = run_options()
        changed = {name: value for name, value in given.items() if name in known and not known[name].is_default(value)}
        files = {name: value for name, value in changed.items() if known[name].is_file}
        options = {name: _plain(known[name], changed[name]) for name in changed if name not in (*ALONE, *files)}
        self._request = request
        self._shared = {name: value for name, value in files.items() if request.count > 1 and has_shares(name, value)}
        self._files = {
            name: given_files(known[name], value) for name, value in files.items() if name not in self._shared
        }
        self._sampler, defaults = _defaults(bundle, request)
        self._of_run: dict[str, Any] = {
            "x2i": _own_version(),
            "bundle": bundle_mark(bundle),
            "backend": backend,
            "prompt": prompt,
            "defaults": RunValues({name: value for name, value in defaults.items() if name not in options}),
            "text_bundle": None if text is None else bundle_mark(text),
        }
        self._options = options

    def parameters(self, images: Sequence[Image.Image], steps: int) -> tuple[Parameters, ...]:
        """Those of each picture of the run, which walked so many steps."""
        return tuple(self._of(number, image, steps) for number, image in enumerate(images))

    def _of(self, number: int, image: Image.Image, steps: int) -> Parameters:
        seed, known = self._request.seed + number, run_options()
        most = known["seed"].most
        fits = most is None or seed <= most
        shares = {
            name: given_files(known[name], cut_share(name, value, number), number)
            for name, value in self._shared.items()
        }
        missing = [] if fits else [f"seed: {seed} is beyond {most}, up to which a run takes one"]
        of_run, own = self._of_run, dict[str, Any]()
        if self._texts:
            prompt, negative = self._texts[number * len(self._texts) // self._request.count]
            of_run, own = of_run | {"prompt": prompt}, {"negative": negative} if negative else {}
        return Parameters(
            walked=Walked(self._sampler, steps, (image.height, image.width)),
            options=RunValues(self._options | own | ({"seed": seed} if fits else {})),
            files=self._files | shares,
            missing=(*missing, *self._of_the_others(number)),
            **of_run,
        )

    def _of_the_others(self, number: int) -> list[str]:
        """Where a picture depends on those that are drawn beside it."""
        request, lines = self._request, []
        if number and "code_noise" in request.inputs.slots:
            lines.append(
                f"seed: the start's codes were drawn from the run's, {request.seed}, and the rest of this picture from "
                f"{request.seed + number}"
            )
        if "tokens" in self._shared and "known" in request.inputs.slots:
            lines.append("tokens: how many were masked again was decided for all pictures of the run together")
        return lines


@cache
def _own_version() -> str:
    """Read from the disk once, and not by every run."""
    return package_version("x2i-edge") or UNKNOWN_VERSION


def bundle_mark(bundle: Bundle) -> BundleMark:
    """By what a bundle is told from others."""
    return BundleMark(plain_name(Path(os.path.abspath(bundle.folder))), bundle.manifest.system, bundle.sha256)


def _plain(option: Option, value: Any) -> Any:
    """A value that was found right, as JSON has it."""
    if option.form == "table":
        return value if isinstance(value, str) else json.dumps(_texts(value), ensure_ascii=False)
    if option.form == "size":
        return tuple(int(side) for side in value)
    if option.several:
        return tuple(_one(option, each) for each in (value if isinstance(value, list | tuple) else [value]))
    return _one(option, value)


def _texts(value: Any) -> Any:
    """A table as JSON has it, whose keys are texts."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else ",".join(map(str, key)): _texts(one) for key, one in value.items()}
    return list(map(_texts, value)) if isinstance(value, list | tuple) else value


def _one(option: Option, value: Any) -> Any:
    kinds: dict[str, type] = {"number": float, "count": int, "flag": bool}
    return kinds.get(option.form, str)(value)


def _defaults(bundle: Bundle, request: Request) -> tuple[str, dict[str, Any]]:
    """The sampler's name, and what preset and plan added, as options with which the same is drawn should they change.

    What begins with a picture, with tokens or with recorded noise has its size from there, and of most token samplers
    the schedule they were trained with decides the number of steps.
    """
    plan, values = bundle.manifest.plan, request.values
    found: dict[str, Any] = {"guidance": float(request.guidance)}
    from_noise = plan.walks_latents and request.noise is not None
    if request.inputs.size is None and not from_noise:
        found["size"] = tuple(map(int, request.size))
    if values["start"] is not None:
        found["start_strength"] = start_share(values)
    steps = plan.main.steps if values["steps"] is None else int(values["steps"])
    if not plan.walks_latents:
        sampler = plan.tokens.sampler
        return sampler.name, found | ({"steps": steps} if isinstance(sampler, MaskedDecoding) else {})
    name = request.preset.sampler if values["sampler"] is None else values["sampler"]
    chosen = plan.latents.sampler.options(name, SamplerSettings.from_options(values))
    return chosen["sampler"], found | {"steps": steps} | chosen
