"""Pictures for the training of the VAE and the UNet: procedural ones with the statistics of nature, and photographs.

Procedural pictures are dead leaves (shapes of all sizes that cover each other, each with a gradient and a texture),
noise with the spectrum of clouds, and mixtures of both. All are made on the device that trains.
"""

from __future__ import annotations

import io
import math
import random
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

__all__ = ["PHOTOGRAPHS", "Pictures", "read_photographs"]

PHOTOGRAPHS = {
    "astronaut.png": "NASA, public domain",
    "chelsea.png": "Stéfan van der Walt, CC0",
    "coffee.png": "Rachel Michetti, CC0",
    "rocket.jpg": "SpaceX, CC0",
    "hubble_deep_field.jpg": "NASA, public domain",
    "china.jpg": "danielbuechele, CC BY 2.0",
    "flower.jpg": "vultilion, CC BY 2.0",
}
"""The photographs that are read from wheels of scikit-image 0.19.3 and scikit-learn 1.7.2, with their licences."""

_SCALES = (1.0, 0.7, 0.5)


def read_photographs(wheels: list[Path]) -> list[Tensor]:
    """The photographs of :data:`PHOTOGRAPHS` in these wheels, each at several scales: (3, height, width), 0 to 1."""
    found = []
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in sorted(archive.namelist()):
                if Path(member).name in PHOTOGRAPHS:
                    whole = Image.open(io.BytesIO(archive.read(member))).convert("RGB")
                    found += [_scaled(whole, scale) for scale in _SCALES]
    return found


class Pictures:
    """Draws pictures of one size from a seed.

    :param photographs: what :func:`read_photographs` gives; may be empty.
    """

    def __init__(self, photographs: list[Tensor], seed: int, device: str = "cpu") -> None:
        self._photographs = [photograph.to(device) for photograph in photographs]
        self._device = device
        self._rng = random.Random(seed)
        self._generator = torch.Generator(device).manual_seed(seed)

    def draw(self, count: int, height: int, width: int) -> Tensor:
        """(count, 3, height, width), 0 to 1: 45 % photographs where there are any, else leaves, clouds and mixtures."""
        photographs = round(0.45 * count) if self._photographs else 0
        leaves = round(0.7 * (count - photographs))
        clouds = count - photographs - leaves
        made = [self._photograph(height, width) for _ in range(photographs)]
        if leaves:
            made += self._leaves(leaves, height, width)
        if clouds:
            mask = torch.sigmoid(self.clouds(clouds, 1, height, width) * 12)
            first, second = (self._coloured(clouds, height, width) for _ in range(2))
            made += torch.lerp(first, second, mask)
        self._rng.shuffle(made)
        return torch.stack(made).clamp(0, 1)

    def clouds(self, count: int, channels: int, height: int, width: int) -> Tensor:
        """Noise with a spectrum of ``1 / f`` to a power from 1.1 to 2.1; zero mean, unit variance."""
        rows = torch.fft.fftfreq(height, device=self._device)[:, None]
        columns = torch.fft.rfftfreq(width, device=self._device)[None]
        frequency = torch.hypot(rows, columns).clamp(min=1 / max(height, width))
        power = 1.1 + self._rand(count, 1, 1, 1)
        spectrum = torch.fft.rfft2(self._randn(count, channels, height, width)) / frequency**power
        noise: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
        noise = noise - noise.mean((-1, -2), keepdim=True)
        return noise / noise.std((-1, -2), keepdim=True).clamp(min=1e-6)

    def _photograph(self, height: int, width: int) -> Tensor:
        whole = self._rng.choice(self._photographs)
        top = self._rng.randrange(max(1, whole.shape[1] - height + 1))
        left = self._rng.randrange(max(1, whole.shape[2] - width + 1))
        part = whole[:, top : top + height, left : left + width]
        if part.shape[1:] != (height, width):
            part = functional.interpolate(part[None], (height, width), mode="bilinear", align_corners=False)[0]
        if self._rng.random() < 0.5:
            part = part.flip(-1)
        gain = 1 + 0.3 * (self._rand(3, 1, 1) - 0.5)
        return part * gain + 0.15 * (self._rand(1, 1, 1) - 0.5)

    def _coloured(self, count: int, height: int, width: int) -> Tensor:
        """Clouds around a colour, the channels correlated as they are in nature."""
        light, own = self.clouds(count, 1, height, width), self.clouds(count, 3, height, width)
        contrast = 0.04 + 0.16 * self._rand(count, 1, 1, 1)
        return self._colour(count) + contrast * (light + 0.3 * own)

    def _leaves(self, count: int, height: int, width: int) -> Tensor:
        y = torch.arange(height, device=self._device).view(1, 1, -1, 1) + 0.5
        x = torch.arange(width, device=self._device).view(1, 1, 1, -1) + 0.5
        picture = self._coloured(count, height, width)
        texture = self.clouds(count, 1, height, width)
        smallest, largest = 2.5, 0.45 * max(height, width)
        number = self._rng.choice((12, 25, 50, 80))
        for _ in range(number):
            # Radii with a density of r ** -3, as things have that are seen from all distances.
            shrunk = self._rand(count, 1, 1, 1) * (1 - (smallest / largest) ** 2)
            radius = smallest / (1 - shrunk).sqrt()
            angle = 2 * math.pi * self._rand(count, 1, 1, 1)
            dx, dy = x - width * self._rand(count, 1, 1, 1), y - height * self._rand(count, 1, 1, 1)
            u, v = dx * angle.cos() + dy * angle.sin(), dy * angle.cos() - dx * angle.sin()
            flat = (0.5 + self._rand(count, 1, 1, 1)).sqrt()
            u, v = u * flat, v / flat
            box = self._rand(count, 1, 1, 1) < 0.4
            distance = torch.where(box, torch.maximum(u.abs(), v.abs()), torch.hypot(u, v))
            sharp = 0.6 + 2.4 * self._rand(count, 1, 1, 1)
            mask = torch.sigmoid((radius - distance) * sharp)
            slope = 0.3 * (self._rand(count, 3, 1, 1) - 0.5)
            rough = 0.08 * self._rand(count, 1, 1, 1) ** 2
            fill = self._colour(count) + slope * u / radius + rough * texture
            picture = torch.lerp(picture, fill, mask)
        return picture

    def _colour(self, count: int) -> Tensor:
        """Colours from grey to strong, (count, 3, 1, 1)."""
        light = self._rand(count, 1, 1, 1)
        strength = self._rand(count, 1, 1, 1) ** 1.5
        return light + strength * (self._rand(count, 3, 1, 1) - light)

    def _rand(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self._device)

    def _randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self._generator, device=self._device)


def _scaled(whole: Image.Image, scale: float) -> Tensor:
    # The largest photographs are halved: their finest level is noise and compression.
    scale *= min(1.0, 700 / max(whole.size))
    size = (round(whole.width * scale), round(whole.height * scale))
    pixels = np.asarray(whole.resize(size, Image.Resampling.LANCZOS), dtype=np.float32)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255
