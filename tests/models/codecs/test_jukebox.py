"""The codec of sounds against its authors' latents and waveforms."""

import pytest
import torch
from x2i.export.components.codec import CodesToWave, WaveToCodes
from x2i.models.codecs.jukebox import LEVELS, JukeboxLevel, JukeboxSettings, WaveStack, load_jukebox
from x2i.models.errors import CheckpointError
from x2i.models.readers.given_files import given_yaml
from x2i.models.readers.tensors import read_tensors

from tests.goldens import golden, golden_arrays
from tests.numerics import TOLERANCES, assert_close

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


def tensors():
    return read_tensors(next(golden("cdcd/music").rglob("vqvae.pt")))


def level() -> JukeboxLevel:
    config = given_yaml(golden("cdcd/music/configs/config.yaml"))
    return load_jukebox(tensors(), LEVELS[config["model"]["params"]["hop_level"]], "vqvae.pt")


def values():
    arrays = golden_arrays("cdcd/music/networks.npz")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def test_codes_to_a_waveform():
    jukebox, arrays = level(), values()
    assert_close(jukebox.codebook[arrays["decode_tokens"]].mT.numpy(), arrays["decode_latent"].numpy(), "exact")
    wave = CodesToWave(jukebox)(arrays["decode_tokens"])
    assert wave.shape[1] == arrays["decode_tokens"].shape[1] * jukebox.settings.hop
    assert_close(wave.numpy(), arrays["decode_wave"][..., 0].numpy(), "music-wave")


def test_a_waveform_to_codes():
    jukebox, arrays = level(), values()
    assert_close(jukebox.encoder(arrays["encode_wave"]).numpy(), arrays["encode_latent_top"].numpy(), "music-wave")
    assert torch.equal(WaveToCodes(jukebox)(arrays["encode_wave"][:, 0]), arrays["encoded_tokens_top"])


def test_dilations_that_grow_would_decode_another_sound(monkeypatch):
    grow = WaveStack.__init__
    monkeypatch.setattr(WaveStack, "__init__", lambda self, settings, shrinks: grow(self, settings, False))
    wave, expected = CodesToWave(level())(values()["decode_tokens"]), values()["decode_wave"][..., 0]
    error = (wave - expected).abs().max()
    assert error > 100 * TOLERANCES["music-wave"].absolute


@pytest.mark.parametrize("name", LEVELS)
def test_every_level_is_as_long_as_its_hop(name):
    jukebox = load_jukebox(tensors(), LEVELS[name], "vqvae.pt")
    assert jukebox.settings.hop == 2 ** sum((3, 2, 2)[: LEVELS[name] + 1])
    codes = torch.tensor([[1, 0, 5]])
    wave = CodesToWave(jukebox)(codes)
    assert wave.shape == (1, 3 * jukebox.settings.hop) and WaveToCodes(jukebox)(wave).shape == codes.shape


def test_another_file():
    with pytest.raises(CheckpointError, match=r"expected Jukebox's VQ-VAE with its level 1 .*, got keys such as a"):
        load_jukebox({"a": torch.ones(1)}, 1, "last.pth")


def test_a_key_too_few():
    given = tensors()
    del given["decoders.2.out.bias"]
    with pytest.raises(CheckpointError, match=r"missing decoders\.2\.out\.bias"):
        load_jukebox(given, 2, "vqvae.pt")


def test_widths_differ_inside_a_block():
    jukebox = JukeboxLevel(JukeboxSettings(codes=5, code_width=3, halvings=(1, 2), blocks=3, width=4, inner=2))
    assert CodesToWave(jukebox)(torch.tensor([[4, 0, 2, 2]])).shape == (1, 4 * 8)
