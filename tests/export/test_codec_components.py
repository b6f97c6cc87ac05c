"""The codecs' graphs in ONNX Runtime: pictures and tokens as their authors', any number at once.

One codec of each kind is traced. The others' graphs differ in sizes alone, and their modules are compared in
`tests/models/codecs`.
"""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from x2i.export.components.codec import picture_tokens_component, token_decoder_component
from x2i.export.to_onnx import to_onnx
from x2i.runtime.output import to_uint8
from x2i.runtime.sessions.backends import open_session
from x2i.runtime.sessions.session import GraphFile

from tests.made_once import made_once
from tests.models.codecs.codec_goldens import codec_goldens, picture, read_codec
from tests.numerics import assert_close, assert_same_picture

GUMBEL = [case for case in codec_goldens() if "encode_exp_noise" in case.values()][:1]
NEAREST = [case for case in codec_goldens() if "encode_exp_noise" not in case.values() and case.code_map][:1]


@cache
def session(case, component):
    graph = component(read_codec(case), case.grid(read_codec(case)))

    def make(out: Path) -> None:
        to_onnx(graph, out)

    name = f"codec-{graph.name}-{case.arrays.replace('/', '-').removesuffix('.npz')}"
    return open_session("cpu", GraphFile(graph.name, made_once(name, make, [case.codec])))


@pytest.mark.parametrize("case", GUMBEL, ids=lambda case: case.arrays)
def test_tokens_to_a_picture(case):
    decoder, values = session(case, token_decoder_component), case.values()
    image = decoder(tokens=values["tokens"])["image"]
    assert_close(image, picture(values), "codec-picture")
    assert_same_picture(to_uint8(image, case.to_uint8), values["decoded_u8"])
    twice = np.concatenate([values["tokens"], values["tokens"][:1]])
    assert_close(decoder(tokens=twice)["image"][-1:], image[:1], "batched")


@pytest.mark.parametrize("case", GUMBEL, ids=lambda case: case.arrays)
def test_the_other_way_of_rounding_would_be_another_picture(case):
    values = case.values()
    other = {"round": "truncate", "truncate": "round"}[case.to_uint8]
    levels = to_uint8(session(case, token_decoder_component)(tokens=values["tokens"])["image"], other)
    assert (levels != values["decoded_u8"]).mean() > 0.2


@pytest.mark.parametrize("case", [*GUMBEL, *NEAREST], ids=lambda case: case.arrays)
def test_a_picture_to_tokens(case):
    noise, pixels = case.exponential(), case.pixels().numpy()
    inputs = {"pixels": pixels} | ({} if noise is None else {"exponential": noise.numpy()})
    encoder = session(case, picture_tokens_component)
    assert np.array_equal(encoder(**inputs)["tokens"], case.values()["encoded_tokens"])
    first = {name: array[:1] for name, array in inputs.items()}
    assert np.array_equal(encoder(**first)["tokens"], case.values()["encoded_tokens"][:1])
