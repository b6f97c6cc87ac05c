"""The condition of the dance-to-music branch against its authors' arrays, and which half of a checkpoint it is from."""

import pytest
import torch
from x2i.models.errors import CheckpointError
from x2i.models.token_transformers.dance import DanceCondition, DanceSettings, load_dance

from tests.goldens import golden, golden_arrays
from tests.numerics import TOLERANCES, assert_close

pytestmark = pytest.mark.usefixtures("no_grad")


@pytest.fixture
def no_grad():
    with torch.no_grad():
        yield


def halves():
    content = torch.load(golden("cdcd/music/checkpoint/last.pth"), map_location="cpu", weights_only=True)
    return content["model"], content["ema"]


def values():
    arrays = golden_arrays("cdcd/music/networks.npz")
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def condition(dance, arrays):
    return dance(arrays["motion"], arrays["video"], arrays["genre"].argmax(1))


def test_the_token():
    dance, arrays = load_dance(*halves(), "last.pth"), values()
    assert_close(dance.motion(arrays["motion"]).numpy(), arrays["motion_embed"].numpy(), "dance")
    assert_close(dance.genre_embed(arrays["genre"].argmax(1))[:, None].numpy(), arrays["genre_embed"].numpy(), "exact")
    assert_close(condition(dance, arrays).numpy(), arrays["cond"].numpy(), "dance")


def test_the_half_that_is_not_averaged_would_be_another_token():
    model, ema = halves()
    decoy = {key.removeprefix("transformer."): value for key, value in model.items() if key.startswith("transformer.")}
    assert decoy.keys() == ema.keys()
    wrong = condition(load_dance(model, decoy, "last.pth"), values())
    assert (wrong - values()["cond"]).abs().max() > 1000 * TOLERANCES["dance"].absolute


def test_another_checkpoint():
    model, ema = halves()
    with pytest.raises(CheckpointError, match=r"expected CDCD's dance-to-music checkpoint .* none of them"):
        load_dance({}, {}, "last.pth")
    with pytest.raises(CheckpointError, match="expected CDCD's dance-to-music checkpoint"):
        load_dance(ema, ema, "last.pth")
    del ema["lin1.bias"]
    with pytest.raises(CheckpointError, match=r"missing lin1\.bias"):
        load_dance(model, ema, "last.pth")


def test_other_sizes():
    settings = DanceSettings(
        features=7, hidden=120, channels=(9, 4, 5, 1), motion_width=3, video_width=6, genres=4, genre_width=2, width=8
    )
    dance = DanceCondition(settings)
    token = dance(torch.rand(3, 9, 7), torch.rand(3, 1, 6), torch.tensor([0, 3, 1]))
    assert token.shape == (3, 1, 8)
