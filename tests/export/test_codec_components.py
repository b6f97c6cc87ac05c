"""The codecs' encoders in ONNX Runtime: tokens as their authors', of any number of pictures at once.

One codec of each kind is traced. The others' graphs differ in sizes alone, and their modules are compared in
`tests/models/codecs`; decoders run in the bundles of the systems.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from x2i.export.components.codec import picture_tokens_component
from x2i.export.to_onnx import to_onnx
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

from tests.made_once import made_once
from tests.models.codecs.codec_goldens import codec_goldens, read_codec


def smallest(cases):
    """The one with the fewest levels, which is traced soonest; none where the goldens are not here."""
    return sorted(cases, key=lambda case: read_codec(case).vqgan.settings.decoder.levels)[:1]


MAPPED_CODECS = [case for case in codec_goldens() if case.code_map]
GUMBEL = smallest([case for case in MAPPED_CODECS if "encode_exp_noise" in case.values()])
NEAREST = smallest([case for case in MAPPED_CODECS if "encode_exp_noise" not in case.values()])


@cache
def session(case):
    graph = picture_tokens_component(read_codec(case), case.grid(read_codec(case)))

    def make(out: Path) -> None:
        to_onnx(graph, out)

    name = f"codec-{graph.name}-{case.arrays.replace('/', '-').removesuffix('.npz')}"
    return open_session("cpu", GraphFile(graph.name, made_once(name, make, [case.codec])))


@pytest.mark.parametrize("case", [*GUMBEL, *NEAREST], ids=lambda case: case.arrays)
def test_a_picture_to_tokens(case):
    noise, pixels = case.exponential(), case.pixels().numpy()
    inputs = {"pixels": pixels} | ({} if noise is None else {"exponential": noise.numpy()})
    encoder = session(case)
    assert np.array_equal(encoder(**inputs)["tokens"], case.values()["encoded_tokens"])
    first = {name: array[:1] for name, array in inputs.items()}
    assert np.array_equal(encoder(**first)["tokens"], case.values()["encoded_tokens"][:1])
