"""The changes of LoCon, LoHa and LoKr against their formulas, computed another way: as torch's layers apply them."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from x2i.runtime.lora.lora import read_lora

from tests.numerics import assert_close

RANK, ALPHA = 3, 1.25
LINEAR, POINT, KERNEL = "mid_block.linear", "mid_block.point", "mid_block.kernel"
LAYERS = {"unet": {LINEAR: (12, 20), POINT: (12, 20, 1, 1), KERNEL: (12, 20, 3, 3)}}


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def change(path: str, tensors: dict[str, Tensor], alpha: float | None = ALPHA):
    name = f"lora_unet_{path.replace('.', '_')}"
    given = {f"{name}.{role}": value.numpy() for role, value in tensors.items()}
    given |= {} if alpha is None else {f"{name}.alpha": np.float32(alpha).reshape(())}
    return read_lora("a file", given, {}, LAYERS).changes["unet", path]


def matrix(path: str, tensors: dict[str, Tensor], alpha: float | None = ALPHA) -> Tensor:
    return torch.from_numpy(change(path, tensors, alpha).matrix(LAYERS["unet"][path])).float()


def applied(path: str, weight: Tensor, pixels: Tensor) -> Tensor:
    """What a layer of this weight makes of [2, 20, 5, 7]."""
    if weight.ndim == 2:
        return F.linear(pixels.movedim(1, -1), weight).movedim(-1, 1)
    return F.conv2d(pixels, weight, padding=weight.shape[-1] // 2)


def close(path: str, weight: Tensor, expected: Tensor, pixels: Tensor) -> None:
    assert_close(applied(path, weight, pixels).numpy(), expected.numpy(), "elite-stage")


PIXELS = drawn(2, 20, 5, 7, seed=99)


@pytest.mark.parametrize("path", [POINT, KERNEL])
def test_locon(path):
    kernel = LAYERS["unet"][path][2:]
    down, up = drawn(RANK, 20, *kernel), drawn(12, RANK, 1, 1)
    expected = F.conv2d(applied(path, down, PIXELS), up) * ALPHA / RANK
    close(path, matrix(path, {"lora_down.weight": down, "lora_up.weight": up}), expected, PIXELS)


def test_locon_of_a_decomposed_kernel():
    down, mid, up = drawn(RANK, 20, 1, 1), drawn(RANK, RANK, 3, 3), drawn(12, RANK, 1, 1)
    expected = F.conv2d(F.conv2d(F.conv2d(PIXELS, down), mid, padding=1), up) * ALPHA / RANK
    tensors = {"lora_down.weight": down, "lora_mid.weight": mid, "lora_up.weight": up}
    close(KERNEL, matrix(KERNEL, tensors), expected, PIXELS)


@pytest.mark.parametrize("path", [LINEAR, POINT, KERNEL])
def test_loha(path):
    columns = int(np.prod(LAYERS["unet"][path][1:]))
    a, b = [drawn(12, RANK, seed=each) for each in (1, 2)], [drawn(RANK, columns, seed=each) for each in (3, 4)]
    tensors = {"hada_w1_a": a[0], "hada_w1_b": b[0], "hada_w2_a": a[1], "hada_w2_b": b[1]}
    rows = [
        [sum(a[0][o, r] * b[0][r, i] for r in range(RANK)) * (a[1][o] @ b[1][:, i]) for i in range(columns)]
        for o in range(12)
    ]
    expected = torch.tensor(rows).reshape(LAYERS["unet"][path]) * ALPHA / RANK
    assert_close(matrix(path, tensors).numpy(), expected.numpy(), "elite-stage")
    whole = change(path, tensors)
    if path == KERNEL:
        return
    up, down = whole.change.factors()
    assert up.shape == (12, RANK**2)
    assert_close(up @ down * whole.scale, expected.reshape(12, 20).numpy(), "elite-stage")


def test_loha_of_a_decomposed_kernel():
    tensors = {}
    halves = []
    for number in (1, 2):
        a, b, core = (
            drawn(RANK, 12, seed=number), drawn(RANK, 20, seed=number + 5), drawn(RANK, RANK, 3, 3, seed=number)
        )  # fmt: skip
        tensors |= {f"hada_w{number}_a": a, f"hada_w{number}_b": b, f"hada_t{number}": core}
        # A kernel's response to one pixel: down, through the core, up.
        halves.append(
            torch.stack(
                [sum(a[p, o] * core[p, q] * b[q, i] for p in range(RANK) for q in range(RANK))
                 for o in range(12) for i in range(20)]
            ).reshape(12, 20, 3, 3)
        )  # fmt: skip
    expected = halves[0] * halves[1] * ALPHA / RANK
    assert_close(matrix(KERNEL, tensors).numpy(), expected.numpy(), "elite-stage")


SIDES = {
    "both whole": ({"lokr_w1": (3, 4)}, {"lokr_w2": (4, 5)}),
    "the small one as factors": ({"lokr_w1_a": (3, 2), "lokr_w1_b": (2, 4)}, {"lokr_w2": (4, 5)}),
    "the large one as factors": ({"lokr_w1": (3, 4)}, {"lokr_w2_a": (4, 2), "lokr_w2_b": (2, 5)}),
    "both as factors": ({"lokr_w1_a": (3, 2), "lokr_w1_b": (2, 4)}, {"lokr_w2_a": (4, 2), "lokr_w2_b": (2, 5)}),
}


@pytest.mark.parametrize("kernel", [(), (3, 3)], ids=["linear", "kernel"])
@pytest.mark.parametrize("name", SIDES)
def test_lokr(name, kernel):
    """In groups, as LyCORIS applies it without the whole matrix: the larger one within each, the small one between."""
    path = KERNEL if kernel else LINEAR
    small, large = SIDES[name]
    given = {key: drawn(*shape) for key, shape in small.items()}
    grown = {key: (*shape, *(kernel if key in ("lokr_w2", "lokr_w2_b") else ())) for key, shape in large.items()}
    given |= {key: drawn(*shape) for key, shape in grown.items()}
    first = given["lokr_w1"] if "lokr_w1" in given else given["lokr_w1_a"] @ given["lokr_w1_b"]
    second = given.get("lokr_w2")
    if second is None:
        second = torch.einsum("br,rd...->bd...", given["lokr_w2_a"], given["lokr_w2_b"])
    groups = PIXELS.reshape(2 * 4, 5, 5, 7)
    inside = applied(path, second, groups).reshape(2, 4, 4, 5, 7)
    expected = torch.einsum("ac,ncbhw->nabhw", first, inside).reshape(2, 12, 5, 7)
    expected = expected * (1 if name == "both whole" else ALPHA / 2)
    if kernel:
        # As LyCORIS saves it: the kernel is joined to the columns.
        given |= {key: value.flatten(1) for key, value in given.items() if key == "lokr_w2_b"}
    close(path, matrix(path, given), expected, PIXELS)
    if not kernel:
        whole = change(path, given)
        factors = whole.change.factors()
        assert (factors is None) == (name == "both whole")
        if factors is not None:
            assert_close(factors[0] @ factors[1] * whole.scale, matrix(path, given).numpy(), "elite-stage")


def test_lokr_of_a_decomposed_kernel():
    given = {"lokr_w1": drawn(3, 4), "lokr_t2": drawn(2, 2, 3, 3), "lokr_w2_a": drawn(2, 4), "lokr_w2_b": drawn(2, 5)}
    groups = PIXELS.reshape(2 * 4, 5, 5, 7)
    narrow = F.conv2d(groups, given["lokr_w2_b"][..., None, None])
    inside = F.conv2d(F.conv2d(narrow, given["lokr_t2"], padding=1), given["lokr_w2_a"].T[..., None, None])
    expected = torch.einsum("ac,ncbhw->nabhw", given["lokr_w1"], inside.reshape(2, 4, 4, 5, 7)).reshape(2, 12, 5, 7)
    close(KERNEL, matrix(KERNEL, given), expected * ALPHA / 2, PIXELS)


@pytest.mark.parametrize(("kernel", "path"), [((), LINEAR), ((1, 1), POINT)])
def test_the_factors_of_a_lora_are_its_halves(kernel, path):
    tensors = {"lora_down.weight": drawn(RANK, 20, *kernel), "lora_up.weight": drawn(12, RANK, *kernel)}
    up, down = change(path, tensors).change.factors()
    assert_close(
        up @ down,
        (tensors["lora_up.weight"].flatten(1) @ tensors["lora_down.weight"].flatten(1)).numpy(),
        "elite-stage",
    )


def test_without_an_alpha_nothing_is_scaled():
    assert change(LINEAR, {"lora_down.weight": drawn(RANK, 20), "lora_up.weight": drawn(12, RANK)}, None).scale == 1
