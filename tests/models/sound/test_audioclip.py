"""AudioCLIP's audio branch against the original at full size, and small relatives of it against torch's own parts."""

import json
from functools import cache

import numpy as np
import pytest
import torch
from scipy.signal import get_window
from x2i.models.errors import CheckpointError
from x2i.models.sound.audioclip import AudioClip, AudioClipSettings, blackman_harris
from x2i.models.sound.esresnext import FrequencyBSplines, adaptive_max, spline_filters

from tests.goldens import golden, golden_tensors
from tests.models.sound.sound_goldens import SMALL, SOUND, audioclip, tensors, waveform
from tests.numerics import assert_as_close, assert_close

TIGHT = [4, 5]
SILENT = [0, 1, 2, 3]


@pytest.fixture(scope="module")
def expected():
    return golden_tensors(SOUND + "sound.safetensors")


@cache
@torch.no_grad()
def heard(case):
    """Waveform, spectrogram, decibels and features of one golden case."""
    module, wave = audioclip(), torch.from_numpy(waveform(case))[None]
    parts = module.spectrogram(wave)
    decibels = module.decibels(parts)
    return parts.numpy(), decibels.numpy(), module.encode(decibels).numpy()


def small(seed=0):
    """A small relative whose statistics fit its input, so that nothing in it saturates."""
    torch.manual_seed(seed)
    module = AudioClip(SMALL).train()
    with torch.no_grad():
        for _ in range(30):
            module(noise(8, 2))
    return module.eval().requires_grad_(False)


def noise(batch, channels):
    return torch.randn(batch, channels, SMALL.frames) * 9000


@pytest.mark.parametrize("case", range(6))
def test_spectrogram(case, expected):
    parts = heard(case)[0]
    assert parts.shape == (1, 2, 2, 1025, 313)
    assert_close(parts[0, 0, :, :, ::24].transpose(1, 2, 0), expected[f"{case}.spec_complex_every24"], "spectrogram")


@pytest.mark.parametrize("case", range(6))
def test_decibels(case, expected):
    decibels = heard(case)[1]
    assert decibels.shape == (1, 2, 3, 341, 313)
    for channel in range(2):
        whole, every8 = f"{case}.power_db_ch{channel}", f"{case}.power_db_ch{channel}_every8"
        if whole not in expected and every8 not in expected:
            assert channel == 1
            continue
        wanted = expected[whole] if whole in expected else expected[every8]
        actual = decibels[0, channel] if whole in expected else decibels[0, channel, :, :, ::8]
        audible = wanted > -80
        assert audible.mean() > 0.45
        assert_close(actual[audible], wanted[audible], "decibels")


@torch.no_grad()
def test_activations_and_feature_of_one_spectrogram(expected):
    module, seen = audioclip(), {}
    wanted = {key.split(".")[2] for key in expected if key.startswith("0.act.")}
    hooks = [
        module.get_submodule(name).register_forward_hook(lambda _m, _x, y, name=name: seen.update({name: y[0].numpy()}))
        for name in wanted
    ]
    picture = torch.from_numpy(expected["0.power_db_ch0"])
    features = module.encode(picture.expand(1, 2, -1, -1, -1))
    for hook in hooks:
        hook.remove()
    assert_close(features.numpy(), expected["0.audio_features"], "sound-features")
    assert seen.keys() == wanted and {"conv1", "layer1", "layer4", "att1", "att5"} <= wanted
    for name, value in seen.items():
        assert_close(value.mean((1, 2)), expected[f"0.act.{name}.channel_means"], "sound-stage")
        spread = np.asarray([value.mean(dtype=np.float64), value.std(dtype=np.float64, ddof=1)])
        assert_close(spread, expected[f"0.act.{name}.mean_std"], "sound-stage")


@pytest.mark.parametrize("case", TIGHT)
def test_features_without_silent_bins(case, expected):
    assert_close(heard(case)[2], expected[f"{case}.audio_features"], "heard-features")


@pytest.mark.parametrize("case", SILENT)
def test_features_of_clips_with_silent_bins(case, expected):
    """Silent bins are rounding noise, so float64 is as far off."""
    wanted = expected[f"{case}.audio_features"]
    assert_as_close(heard(case)[2], expected[f"{case}.audio_features_float64"], wanted, factor=1.0)


def test_every_tensor_of_the_checkpoint_has_its_place():
    named = {key.removeprefix("audio.") for key in tensors()}
    assert named - audioclip().state_dict().keys() == {"fbsp.bias"} and audioclip().state_dict().keys() <= named
    assert_close(blackman_harris(1654).numpy(), tensors()["audio.window"].numpy(), "exact")


def test_sizes_of_the_released_model():
    settings = AudioClipSettings()
    assert (settings.rows, settings.columns) == (341, 313)
    recorded = json.loads(golden(SOUND + "sound.json").read_text("utf-8"))["cases"][0]["power_db_shape"]
    assert recorded == [1, 2, settings.bands, settings.rows, settings.columns]


@pytest.mark.parametrize("length", [2, 7, 400])
def test_the_window_is_the_periodic_blackman_harris(length):
    wanted = get_window("blackmanharris", length).astype(np.float32)
    assert_close(blackman_harris(length).numpy(), wanted, "pixels")


def test_filters_of_order_0_are_the_fourier_basis_of_a_centred_frame():
    n_fft = 64
    real, imaginary = spline_filters(FrequencyBSplines(n_fft), n_fft)
    time = np.pi * np.linspace(-1, 1, n_fft)
    wanted = np.exp(-1j * np.arange(n_fft // 2 + 1)[:, None] * time) / np.sqrt(n_fft)
    assert_close(real.numpy(), wanted.real.astype(np.float32), "spectrogram")
    assert_close(imaginary.numpy(), wanted.imag.astype(np.float32), "spectrogram")


@pytest.mark.parametrize("side", [(7, 9), (8, 5), (6, 12), (1, 3)])
def test_adaptive_max_is_torchs(side):
    x = torch.randn(2, 3, *side)
    half = tuple((each + 1) // 2 for each in side)
    for size in (side, half, (1, 1)):
        assert torch.equal(adaptive_max(x, size), torch.nn.functional.adaptive_max_pool2d(x, size))


@torch.no_grad()
def test_a_small_relative_has_the_shapes_its_settings_say():
    module, waves = small(), noise(3, 2)
    assert module.spectrogram(waves).shape == (3, 2, 2, 65, SMALL.columns)
    assert module.decibels(module.spectrogram(waves)).shape == (3, 2, 2, 32, SMALL.columns)
    features = module(waves)
    assert features.shape == (3, 24)
    assert_close(features.norm(dim=-1).numpy(), np.ones(3), "spectrogram")
    for row in range(3):
        assert_close(module(waves[row : row + 1])[0].numpy(), features[row].numpy(), "sound-features")
    assert (features[0] - features[1]).abs().max() > 1e-2


@torch.no_grad()
def test_the_spectrogram_is_the_short_time_fourier_transform_where_filters_are_untrained():
    module, wave = AudioClip(SMALL), noise(1, 1)
    x = (wave[0].double() + 32768) * 2 / 65535 - 1
    missing = (SMALL.columns - 1) * SMALL.hop + SMALL.window - SMALL.frames
    x = torch.nn.functional.pad(x, (missing // 2, missing - missing // 2))[0].numpy()
    edge = (SMALL.n_fft - SMALL.window) // 2
    time = (np.pi * np.linspace(-1, 1, SMALL.n_fft))[edge : edge + SMALL.window]
    basis = np.exp(-1j * np.arange(65)[:, None] * time) / np.sqrt(SMALL.n_fft)
    for column in (0, 1, SMALL.columns - 1):
        frame = x[column * SMALL.hop :][: SMALL.window] * get_window("blackmanharris", SMALL.window)
        actual = module.spectrogram(wave)[0, 0, ..., column].numpy()
        wanted = basis @ frame
        assert_close(actual, np.stack([wanted.real, wanted.imag]), "spectrogram")


@torch.no_grad()
def test_channels_are_summed_and_both_count():
    module, waves = small(), noise(1, 2)
    first = module(waves)
    assert_close(module(waves.flip(1)).numpy(), first.numpy(), "sound-features")
    waves[0, 1] = waves[0, 0]
    assert (module(waves) - first).abs().max() > 1e-3


@torch.no_grad()
def test_filters_follow_the_loaded_parameters():
    state = small().state_dict()
    state["fbsp.fc"] = state["fbsp.fc"] * 0.5
    state["window"] = state["window"] * 0.5
    module = AudioClip(SMALL).eval()
    before = module.filters
    module.load_state_dict(state, assign=True)
    assert module.filters.shape == before.shape and (module.filters - before).abs().max() > 0.01
    assert "filters" not in state


@torch.no_grad()
def test_exports_with_any_batch():
    module = small()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module, (noise(2, 2),), dynamic_shapes=({0: batch},))
    for size in (1, 5):
        waves = noise(size, 2)
        assert_close(program.module()(waves).numpy(), module(waves).numpy(), "sound-features")


def test_settings_keep_and_every_problem_is_told(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(SMALL.to_json())
    assert AudioClipSettings.from_json(path) == SMALL
    whole = json.loads(SMALL.to_json())

    def problems(**changes):
        path.write_text(json.dumps(whole | changes))
        with pytest.raises(CheckpointError) as caught:
            AudioClipSettings.from_json(path)
        return caught.value.problems

    odd = problems(hop=0, layers="1, 2", colour="red")
    assert len(odd) == 3 and all(name in "".join(odd) for name in ("hop", "layers", "colour"))
    unfit = problems(window=129, layers=[1, 2], bands=66)
    assert len(unfit) == 3 and "at most 128" in unfit[1] and "65 filters" in unfit[2]
    path.write_text("[1]")
    with pytest.raises(CheckpointError, match="JSON"):
        AudioClipSettings.from_json(path)
