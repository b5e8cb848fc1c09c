"""How good a restyled clip is, in numbers. Clips are tensors of (frames, 3, height, width), 0 to 1."""

from __future__ import annotations

import colorsys

import torch
from torch import Tensor
from torch.nn import functional

from tools.demo_model.styles import COLOURS

__all__ = ["StyleClassifier", "edge_correlation", "flicker", "hue_angle", "psnr", "speckle_ratio"]

_FLAT = 4 / 255  # a deviation of the source in 5 x 5 pixels that nobody sees
_INVISIBLE = (1.5 / 255) ** 2


def psnr(made: Tensor, wanted: Tensor) -> float:
    """Decibels."""
    return float(-10 * (made - wanted).square().mean().log10())


def edge_correlation(source: Tensor, result: Tensor) -> float:
    """How far the result has its edges where the source has them: the correlation of both blurred edge maps.

    :returns: -1 to 1, the mean over the frames.
    """
    maps = [_smooth(_slope(_luma(clip)), 9).flatten(1) for clip in (source, result)]
    first, second = (part - part.mean(1, keepdim=True) for part in maps)
    return float(functional.cosine_similarity(first, second, dim=1).mean())


def speckle_ratio(source: Tensor, result: Tensor, true: Tensor) -> float:
    """Where the source is flat: the variance in 5 x 5 pixels of the result, over that of the true look.

    A variance below that of the rounding to 8 bits counts as much as it, so that a look of one ink can be matched.
    """
    flat = _variance(source) < _FLAT**2
    made, wanted = (float(_variance(clip)[flat].mean()) for clip in (result, true))
    return (made + _INVISIBLE) / (wanted + _INVISIBLE)


def flicker(clip: Tensor) -> float:
    """How far each frame is from the mean of the two beside it, 0 to 1; at least three frames."""
    return float((clip[1:-1] - (clip[:-2] + clip[2:]) / 2).abs().mean())


def hue_angle(clip: Tensor, colour: str) -> float:
    """Degrees between the hue of the clip's mean and that of a colour of :data:`COLOURS`, 0 to 180."""
    hues = [360 * colorsys.rgb_to_hsv(*rgb)[0] for rgb in (clip.mean((0, 2, 3)).tolist(), COLOURS[colour])]
    apart = abs(hues[0] - hues[1]) % 360
    return min(apart, 360 - apart)


class StyleClassifier:
    """A linear classifier on 17 numbers of a picture: its colours, how light and how rich they are, its edges.

    :param pictures: of each style, (count, 3, height, width).
    """

    def __init__(self, pictures: dict[str, Tensor]) -> None:
        self._names = list(pictures)
        inputs = torch.cat([_numbers(pictures[name]) for name in self._names])
        wanted = torch.cat([torch.full((len(pictures[name]),), row) for row, name in enumerate(self._names)])
        self._mean, self._spread = inputs.mean(0), inputs.std(0).clamp(min=1e-4)
        torch.manual_seed(0)
        self._layer = torch.nn.Linear(inputs.shape[1], len(self._names))
        optimizer = torch.optim.LBFGS(self._layer.parameters(), max_iter=200)

        def loss() -> Tensor:
            optimizer.zero_grad()
            far = functional.cross_entropy(self._scores(inputs), wanted) + 1e-3 * self._layer.weight.square().sum()
            far.backward()  # type: ignore[no-untyped-call]
            return far

        optimizer.step(loss)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def names(self, pictures: Tensor) -> list[str]:
        """The style of each picture."""
        return [self._names[row] for row in self._scores(_numbers(pictures)).argmax(1).tolist()]

    def _scores(self, inputs: Tensor) -> Tensor:
        scores: Tensor = self._layer((inputs - self._mean) / self._spread)
        return scores


def _numbers(pictures: Tensor) -> Tensor:
    luma = _luma(pictures).flatten(1)
    rich = (pictures.amax(1) - pictures.amin(1)).flatten(1)
    slope = _slope(_luma(pictures)).flatten(1)
    shares = [((luma >= low) & (luma < low + 0.2)).float().mean(1) for low in (0.0, 0.2, 0.4, 0.6, 0.8)]
    return torch.stack(
        [
            *pictures.mean((2, 3)).unbind(1), *pictures.std((2, 3)).unbind(1), rich.mean(1), rich.std(1), slope.mean(1),
            slope.std(1), luma.amin(1), luma.amax(1), *shares,
        ],
        1,
    )  # fmt: skip


def _luma(clip: Tensor) -> Tensor:
    return (clip * torch.tensor([0.3, 0.59, 0.11]).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _slope(luma: Tensor) -> Tensor:
    return torch.hypot(luma.diff(dim=-1)[..., 1:, :], luma.diff(dim=-2)[..., 1:])


def _smooth(clip: Tensor, size: int) -> Tensor:
    """Two box filters in a row, nearly a Gaussian."""
    for _ in range(2):
        clip = functional.avg_pool2d(clip, size, 1, size // 2, count_include_pad=False)
    return clip


def _variance(clip: Tensor) -> Tensor:
    luma = _luma(clip)
    return functional.avg_pool2d(luma.square(), 5, 1) - functional.avg_pool2d(luma, 5, 1).square()
