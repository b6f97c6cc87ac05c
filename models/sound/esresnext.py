"""ESResNeXt over learned spectrograms: a ResNeXt whose every stage is weighted by an attention on what entered it."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


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


def spline_filters(splines: FrequencyBSplines, n_fft: int) -> Tensor:
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


EXPANSION = 4
ATTENTION_KERNELS = ((3, 1), (1, 5), (3, 1), (1, 5))
LAST_ATTENTION_KERNEL = (3, 5)


class StageAttention(nn.Module):
    """Weights between 0 and 1 for a stage's output: [B, width, h, w] -> [B, width_out, *size].

    `size` is the input's own, its half rounded up, or 1 x 1; the input is max-pooled to it first.
    """

    def __init__(self, width: int, width_out: int, kernel: tuple[int, int]):
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2)
        self.conv_depth = nn.Conv2d(width, width, kernel, padding=padding, groups=width)
        self.conv_point = nn.Conv2d(width, width_out, 1)
        self.bn = nn.BatchNorm2d(width_out)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return torch.sigmoid(self.bn(self.conv_point(self.conv_depth(adaptive_max(x, size)))))


def adaptive_max(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Adaptive max-pooling to the same size, to half of it rounded up, or to 1 x 1, as operators every engine has.

    The windows that halve an odd side reach one place over each edge and overlap; those of an even side do not.
    """
    before = (x.shape[2], x.shape[3])
    if size == before:
        return x
    if size == (1, 1):
        return x.amax((2, 3), keepdim=True)
    assert size == tuple((side + 1) // 2 for side in before), (before, size)
    odd = [side % 2 for side in before]
    return functional.max_pool2d(x, [2 + each for each in odd], 2, odd)


class Bottleneck(nn.Module):
    """ResNeXt's block: 1 x 1, grouped 3 x 3 (which strides), 1 x 1 to `EXPANSION` times `planes`, and a shortcut."""

    def __init__(self, width: int, planes: int, inner: int, groups: int, stride: int):
        super().__init__()
        out = planes * EXPANSION
        self.conv1, self.bn1 = nn.Conv2d(width, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3, self.bn3 = nn.Conv2d(inner, out, 1, bias=False), nn.BatchNorm2d(out)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or width != out:
            self.downsample = nn.Sequential(nn.Conv2d(width, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.bn1(self.conv1(x)))
        h = torch.relu(self.bn2(self.conv2(h)))
        shortcut = x if self.downsample is None else self.downsample(x)
        return torch.relu(self.bn3(self.conv3(h)) + shortcut)


class ESResNeXt(nn.Module):
    """Pictures of sounds [B, bands, rows, columns] -> pooled [B, 32 x width].

    `width` is the stem's, `layers` the blocks of the four stages, `group_width` the width of one of the `groups` in
    the first stage; every stage doubles both. Key names are the released checkpoints' own. Source: ESResNe(X)t-fbsp
    (arXiv 2104.11587) and AudioCLIP (arXiv 2106.13043).
    """

    def __init__(self, bands: int, width: int, layers: Sequence[int], groups: int, group_width: int):
        super().__init__()
        assert len(layers) == len(ATTENTION_KERNELS), layers
        self.conv1, self.bn1 = nn.Conv2d(bands, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        before = width
        for index, (count, kernel) in enumerate(zip(layers, ATTENTION_KERNELS, strict=True)):
            planes, inner, stride = width << index, groups * group_width << index, 1 if index == 0 else 2
            out = planes * EXPANSION
            first = Bottleneck(before, planes, inner, groups, stride)
            others = (Bottleneck(out, planes, inner, groups, 1) for _ in range(count - 1))
            self.add_module(f"layer{index + 1}", nn.Sequential(first, *others))
            self.add_module(f"att{index + 1}", StageAttention(before, out, kernel))
            before = out
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.att5 = StageAttention(before, before, LAST_ATTENTION_KERNEL)

    def pooled(self, pictures: Tensor) -> Tensor:
        """[B, bands, rows, columns] -> [B, 32 x width], averaged over rows and columns."""
        x = self.maxpool(torch.relu(self.bn1(self.conv1(pictures))))
        for index in range(1, len(ATTENTION_KERNELS) + 1):
            y = self.get_submodule(f"layer{index}")(x)
            x = y * self.get_submodule(f"att{index}")(x, (y.shape[2], y.shape[3]))
        return (self.avgpool(x) * self.att5(x, (1, 1))).flatten(1)
