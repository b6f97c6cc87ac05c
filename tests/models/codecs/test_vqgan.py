"""The picture codecs against their authors' arrays: codes, vectors, pictures, and the tokens of a picture."""

import numpy as np
import pytest
import torch
from x2i.export.components.codec import PictureTokens, TokenDecoder
from x2i.models.codecs.token_codec import TokenCodec
from x2i.models.codecs.vqgan import Halving, nearest_codes
from x2i.runtime.output import to_uint8

from tests.models.codecs.codec_goldens import ALL, MAPPED, codec_goldens, picture, read_codec
from tests.numerics import TOLERANCES, assert_close, assert_same_picture

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


@ALL
def test_a_class_is_decoded_as_the_first_of_its_codes(case):
    codec, values = read_codec(case), case.values()
    assert np.array_equal(codec.codes[values["tokens"]].numpy(), values["full_codes"])
    if "z" in values:
        vectors = codec.vqgan.codebook[codec.codes[values["tokens"]]].mT.unflatten(2, case.grid(codec))
        assert_close(vectors.numpy(), values["z"], "exact")


@ALL
def test_a_picture_of_tokens(case):
    codec, values = read_codec(case), case.values()
    tokens, grid = torch.from_numpy(values["tokens"]), case.grid(codec)
    assert_close(TokenDecoder(codec, grid)(tokens).numpy(), picture(values), "codec-picture")
    if "decoder_raw" in values:
        assert_close(TokenDecoder(codec, grid, clamps=False)(tokens).numpy(), values["decoder_raw"], "codec-raw")


@ALL
def test_bytes_of_a_picture(case):
    codec, values = read_codec(case), case.values()
    image = TokenDecoder(codec, case.grid(codec))(torch.from_numpy(values["tokens"])).numpy()
    assert_same_picture(to_uint8(image, case.to_uint8), values["decoded_u8"])
    other = {"round": "truncate", "truncate": "round"}[case.to_uint8]
    assert (to_uint8(image, other) != values["decoded_u8"]).mean() > 0.2


@ALL
def test_the_tokens_of_a_picture(case):
    codec, values = read_codec(case), case.values()
    if "encoder_h" in values:
        assert_close(codec.vqgan.encode(case.pixels()).numpy(), values["encoder_h"], "codec-raw")
    noise = case.exponential()
    assert (noise is not None) == codec.vqgan.settings.gumbel
    assert np.array_equal(PictureTokens(codec)(case.pixels(), noise).numpy(), values["encoded_tokens"])


@pytest.mark.parametrize("case", MAPPED, ids=lambda case: case.folder)
def test_the_last_of_a_class_codes_would_be_another_picture(case):
    codec, values = read_codec(case), case.values()
    last = torch.zeros(codec.classes, dtype=torch.int64).scatter_reduce(
        0, codec.reduced, torch.arange(len(codec.reduced)), "amax"
    )
    assert not np.array_equal(last[values["tokens"]].numpy(), values["full_codes"])


def test_zeros_on_all_sides_would_be_other_vectors(monkeypatch):
    def padded(self, x):
        return torch.nn.functional.conv2d(x, self.conv.weight, self.conv.bias, stride=2, padding=1)

    monkeypatch.setattr(Halving, "forward", padded)
    for case in (case for case in codec_goldens() if "encoder_h" in case.values()):
        vqgan = read_codec(case).vqgan
        error = np.abs(vqgan.encode(case.pixels()).numpy() - case.values()["encoder_h"]).max()
        assert vqgan.settings.factor == 1 or error > 100 * TOLERANCES["codec-raw"].absolute


def test_a_gumbel_codebook_without_its_noise_gives_other_tokens():
    cases = [case for case in codec_goldens() if "encode_exp_noise" in case.values()]
    for case in cases:
        codec = read_codec(case)
        nearest = nearest_codes(codec.vqgan.encode(case.pixels()), codec.vqgan.codebook)
        tokens = nearest if codec.reduced is None else codec.reduced[nearest]
        assert not np.array_equal(tokens.numpy(), case.values()["encoded_tokens"])


def test_nearest_by_a_product_would_be_other_tokens():
    cases = [case for case in codec_goldens() if "encode_exp_noise" not in case.values()]
    wrong = 0
    for case in cases:
        codec = read_codec(case)
        codes = (codec.vqgan.encode(case.pixels()).flatten(2).mT @ codec.vqgan.codebook.T).argmax(-1)
        tokens = codes if codec.reduced is None else codec.reduced[codes]
        wrong += int((tokens.numpy() != case.values()["encoded_tokens"]).sum())
    assert wrong or not cases


def test_tokens_by_columns_are_the_same_picture_turned():
    cases = codec_goldens()
    for case in cases[:1]:
        codec: TokenCodec = read_codec(case)
        tokens, grid = torch.from_numpy(case.values()["tokens"]), case.grid(codec)
        turned = tokens.unflatten(1, grid).mT.flatten(1)
        by_columns = TokenDecoder(codec, grid, by_columns=True)
        by_rows = TokenDecoder(codec, grid)(tokens)
        assert_close(by_columns(turned).numpy(), by_rows.numpy(), "codec-raw")
        assert (by_columns(tokens) - by_rows).abs().max() > 0.1
