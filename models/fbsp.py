"""The learned frame transform of AudioCLIP: complex frequency B-splines in the place of a Fourier basis."""

import math

import torch
from torch import Tensor, nn


class FrequencyBSplines(nn.Module):
    """The parameters of n_fft / 2 + 1 complex filters: order `m`, bandwidth `fb` and centre `fc`, float32 [filters].

    They begin as the Fourier basis (order 0). Source: ESResNe(X)t-fbsp (arXiv 2104.11587).
    """

    m: Tensor
    fb: Tensor
    fc: Tensor

    def __init__(self, n_fft: int):
        super().__init__()
        filters = n_fft // 2 + 1
        self.register_buffer("m", torch.zeros(filters))
        self.register_buffer("fb", torch.ones(filters))
        self.register_buffer("fc", torch.arange(filters, dtype=torch.float32))


def kernels(splines: FrequencyBSplines, n_fft: int) -> Tensor:
    """The filters themselves, float32 [2, filters, n_fft]: real parts, then imaginary parts.

    Computed in float32 whatever the parameters' type, because the original's results are those of float32.
    """
    m, fb, fc = (value.to(torch.float32)[:, None] for value in (splines.m, splines.fb, splines.fc))
    time = math.pi * torch.linspace(-1, 1, n_fft, device=m.device) + 1e-8
    angle = fb * time / (m + 1e-8)
    sinc = torch.where(angle == 0, 1.0, torch.sin(angle) / angle)
    turn = m * torch.where(sinc < 0, math.pi, 0.0)
    size = sinc.abs() ** m * torch.sqrt(fb) / math.sqrt(n_fft)
    real, imaginary = size * torch.cos(turn), size * torch.sin(turn)
    cosine, sine = torch.cos(fc * time), torch.sin(fc * time)
    return torch.stack([real * cosine + imaginary * sine, imaginary * cosine - real * sine])
