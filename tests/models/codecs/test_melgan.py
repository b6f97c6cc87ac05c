"""The vocoder against its authors' waveform, and its files."""

import numpy as np
import pytest
import torch
from x2i.models.codecs.melgan import (
    Melgan,
    MelganSettings,
    folded_weights,
    read_melgan,
    read_melgan_settings,
)
from x2i.models.errors import CheckpointError
from x2i.models.readers.tensors import read_tensors

from tests.goldens import golden, golden_arrays
from tests.numerics import TOLERANCES, assert_close


def checkpoint():
    """The vocoder's file, in the one folder of logs that there is."""
    return next(golden("diffsound/model").rglob("best_netG.pt"))


def values():
    return golden_arrays("diffsound/vocoder.npz")


def test_a_mel_to_a_waveform():
    melgan, arrays = read_melgan(checkpoint()), values()
    with torch.no_grad():
        wave = melgan(torch.from_numpy(arrays["mel01"]))
    assert wave.shape[1] == arrays["mel01"].shape[2] * melgan.settings.hop
    assert_close(wave.numpy(), arrays["wave"][:, 0], "wave")


def test_weight_norms_are_folded():
    folded = folded_weights(read_tensors(checkpoint()))
    expected = {key.removeprefix("folded_"): value for key, value in values().items() if key.startswith("folded_")}
    assert expected
    for name, value in expected.items():
        assert_close(folded[f"{name}.weight"].numpy(), value, "folded")


def test_a_norm_over_the_outputs_of_a_transposed_convolution_would_be_another():
    tensors = read_tensors(checkpoint())
    transposed = "model.3"
    length, direction = tensors[f"{transposed}.weight_g"], tensors[f"{transposed}.weight_v"]
    over_outputs = direction * length / torch.linalg.vector_norm(direction, dim=(0, 2), keepdim=True)
    error = np.abs(over_outputs.numpy() - values()[f"folded_{transposed}"]).max()
    assert error > 1000 * TOLERANCES["folded"].absolute


def test_zeros_instead_of_reflections_would_be_another_sound(monkeypatch):
    monkeypatch.setattr(torch.nn.ReflectionPad1d, "forward", lambda self, x: torch.nn.functional.pad(x, self.padding))
    arrays = values()
    with torch.no_grad():
        wave = read_melgan(checkpoint())(torch.from_numpy(arrays["mel01"])).numpy()
    assert np.abs(wave - arrays["wave"][:, 0]).max() > 10 * TOLERANCES["wave"].absolute


def test_a_weight_norm_with_half_of_it_missing_is_told(tmp_path):
    tensors = read_tensors(checkpoint())
    del tensors["model.1.weight_g"]
    torch.save(tensors, tmp_path / "best_netG.pt")
    (tmp_path / "args.yml").write_bytes(checkpoint().with_name("args.yml").read_bytes())
    with pytest.raises(CheckpointError) as refused:
        read_melgan(tmp_path / "best_netG.pt")
    assert "missing model.1.weight" in str(refused.value) and "unexpected model.1.weight_v" in str(refused.value)


def test_settings_beside_objects_that_are_not_made(tmp_path):
    path = tmp_path / "args.yml"
    path.write_text(
        "!!python/object:argparse.Namespace\nn_mel_channels: 7\nngf: 3\nn_residual_layers: 2\n"
        "save_path: !!python/object/apply:pathlib.PosixPath [logs, tiny]\n",
        "utf-8",
    )
    assert read_melgan_settings(path) == MelganSettings(7, 3, 2)
    path.write_text("!!python/object:argparse.Namespace\nn_mel_channels: 7\nngf: many\n", "utf-8")
    with pytest.raises(CheckpointError) as refused:
        read_melgan_settings(path)
    assert len(refused.value.problems) == 2


def test_both_files_problems_come_at_once(tmp_path):
    with pytest.raises(CheckpointError) as refused:
        read_melgan(tmp_path / "best_netG.pt")
    assert len(refused.value.problems) == 2


def test_samples_of_a_frame():
    melgan = Melgan(MelganSettings(5, 2, 2)).eval()
    with torch.no_grad():
        assert melgan(torch.rand(2, 5, 11)).shape == (2, 11 * 256)


@pytest.mark.parametrize(
    ("length", "direction"), [((12,), (30,)), ((4, 1, 1), (3, 5, 2)), ((3, 5, 1), (3, 5, 2)), ((), ())]
)
def test_a_norm_that_does_not_fit_stays_as_it_is(length, direction):
    """It is told as two keys that are unknown, beside the one that is missing."""
    tensors = {"0.weight_g": torch.ones(length), "0.weight_v": torch.ones(direction)}
    assert folded_weights(tensors).keys() == tensors.keys()


@pytest.mark.filterwarnings("error")
def test_a_weight_norm_of_complex_numbers_stays_as_it_is():
    """The strict reader refuses it by name; torch would only warn, and drop half of each number."""
    pair = {
        f"a.weight_{end}": torch.ones(shape, dtype=torch.cfloat) for end, shape in (("g", (3, 1, 1)), ("v", (3, 2, 2)))
    }
    assert folded_weights(pair).keys() == pair.keys()
