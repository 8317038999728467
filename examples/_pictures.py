"""Pictures of small networks, with matplotlib: each function draws one figure and writes it to a file.

The colours are those of Okabe and Ito, and maps between two of them, which everyone can tell apart; what colour
says, a mark or a text says as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

import tinygrad_nn as tn

BLUE, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
COLOURS = (BLUE, ORANGE, GREEN, PURPLE)
BETWEEN = LinearSegmentedColormap.from_list("between", [BLUE, "#F7F7F7", ORANGE])
MARKS = ("o", "s")


@contextmanager
def figure(path: Path, width: float, height: float) -> Iterator[Figure]:
    """Make a figure of a size in inches, and write it at the end."""
    made = Figure(figsize=(width, height), layout="constrained")
    yield made
    made.savefig(path, dpi=100)


def curves(path: Path, series: Mapping[str, Sequence[float]], ylabel: str) -> None:
    """Draw figures over the epochs on a logarithmic scale."""
    with figure(path, 6, 3.6) as drawn:
        axes = drawn.subplots()
        for colour, style, (name, values) in zip(COLOURS, ("-", "--", "-.", ":"), series.items(), strict=False):
            mark = "o" if len(values) == 1 else ""  # one epoch alone would be a line without length
            axes.plot(range(1, len(values) + 1), values, style, color=colour, label=name, marker=mark)
        axes.set(xlabel="epoch", ylabel=ylabel, yscale="log", xlim=(0.5, max(map(len, series.values())) + 0.5))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()


def boundaries(
    path: Path,
    panels: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    points: np.ndarray,
    labels: np.ndarray,
    scale: tuple[float, float, float],
) -> None:
    """Draw what networks answer in the plane around points of two classes, and the line between the classes.

    A panel's function maps points (n, 2) to numbers (n,); `scale` says the number of class 0, the one between the
    classes and the one of class 1.
    """
    low, between, high = scale
    margin = 0.25 * np.ptp(points, axis=0)
    (left, bottom), (right, top) = points.min(axis=0) - margin, points.max(axis=0) + margin
    x, y = np.meshgrid(np.linspace(left, right, 200), np.linspace(bottom, top, 200))
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    with figure(path, 0.7 + 3 * len(panels), 3.3) as drawn:
        every = drawn.subplots(1, len(panels), sharex=True, sharey=True, squeeze=False)[0]
        for axes, (name, answer) in zip(every, panels.items(), strict=True):
            z = answer(grid).reshape(x.shape)
            shades = axes.contourf(x, y, z, np.linspace(low, high, 21), cmap=BETWEEN, extend="both")
            axes.contour(x, y, z, [between], colors="black", linewidths=1.2)
            for k, (mark, colour) in enumerate(zip(MARKS, COLOURS, strict=False)):
                mine = labels == k
                axes.plot(
                    *points[mine].T, mark, color=colour, markeredgecolor="white", markersize=8, label=f"class {k}"
                )
            axes.set_title(name, fontsize=10)
            axes.set_xlabel("$x_1$")
        every[0].set_ylabel("$x_2$")
        drawn.colorbar(shades, ax=list(every), label="answer", ticks=[low, between, high])
        drawn.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def confusion(path: Path, matrix: np.ndarray, title: str) -> None:
    """Draw a confusion matrix: a row for each true class, in per cent of its row."""
    share = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    with figure(path, 5.6, 5) as drawn:
        axes = drawn.subplots()
        shades = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (true, predicted), count in np.ndenumerate(matrix):
            if count:
                colour = "white" if share[true, predicted] > 0.5 else "black"
                axes.text(predicted, true, f"{count}", ha="center", va="center", color=colour, fontsize=8)
        classes = range(len(matrix))
        axes.set(xlabel="predicted", ylabel="true", xticks=classes, yticks=classes)
        axes.set_title(title, fontsize=11)
        drawn.colorbar(shades, label="share of the true class", format=PercentFormatter(1), shrink=0.8)


def saliency(network: Any, inputs: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Return the size of the gradient of each sample's output of a class with respect to its inputs."""
    x = tn.Tensor(inputs, requires_grad=True)
    network(x)[np.arange(len(inputs)), classes].sum().backward()  # no sample's output depends on another one
    network.zero_grad()
    size: np.ndarray = np.abs(x.grad)
    return size


def digits(path: Path, images: np.ndarray, labels: np.ndarray, predicted: np.ndarray, gradients: np.ndarray) -> None:
    """Draw digits with what was predicted, and below each the pixels that the answer depends on most."""
    count = len(images)
    with figure(path, 0.75 * count + 0.3, 1.95) as drawn:
        for k, (top, bottom) in enumerate(drawn.subplots(2, count, squeeze=False).T):
            right = labels[k] == predicted[k]
            top.set_title(
                f"{predicted[k]}" if right else f"{predicted[k]}, is {labels[k]}",
                color="black" if right else ORANGE,
                weight="normal" if right else "bold",
                fontsize=10,
            )
            top.imshow(images[k], cmap="gray_r", interpolation="nearest")
            high = np.quantile(gradients[k], 0.995)
            bottom.imshow(gradients[k], cmap="magma", vmin=0, vmax=high, interpolation="nearest")
            for axes in (top, bottom):
                axes.set(xticks=[], yticks=[])
            if k == 0:
                top.set_ylabel("image")
                bottom.set_ylabel("gradient")


def first_layer(path: Path, weight: np.ndarray, shape: tuple[int, int], title: str) -> None:
    """Draw the weights of the units of a first layer (in, out) as pictures: blue takes away, orange adds."""
    units = min(weight.shape[1], 40)
    limit = np.quantile(np.abs(weight), 0.995)
    with figure(path, 7.6, 0.66 * -(-units // 10) + 0.4) as drawn:
        every = drawn.subplots(-(-units // 10), 10, squeeze=False).ravel()
        for axes in every:
            axes.axis("off")
        for k in range(units):
            shades = every[k].imshow(
                weight[:, k].reshape(shape), cmap=BETWEEN, vmin=-limit, vmax=limit, interpolation="nearest"
            )
        drawn.suptitle(title, fontsize=11)
        drawn.colorbar(shades, ax=list(every), shrink=0.8)


def gradient_flow(path: Path, flows: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Draw the sizes of the gradients of each parameter: the middle half as a bar, the median as a mark.

    Flows come in pairs, of one network before and after its training.
    """
    floor = 1e-12
    with figure(path, 7.4, 3.8) as drawn:
        axes = drawn.subplots()
        for k, (name, flow) in enumerate(flows.items()):
            places = np.arange(len(flow)) + 0.7 * ((k + 0.5) / len(flows) - 0.5)
            middle_half = [np.quantile(np.maximum(size, floor), (0.25, 0.5, 0.75)) for size in flow.values()]
            low, middle, high = np.transpose(middle_half)
            colour = COLOURS[k // 2 % len(COLOURS)]
            axes.vlines(places, low, high, color=colour, linewidth=4, alpha=0.4)
            fill = "white" if k % 2 == 0 else colour
            axes.plot(places, middle, "oossDD^^"[k % 8], color=colour, markerfacecolor=fill, linestyle="", label=name)
        axes.set_xticks(range(len(flow)), list(flow), rotation=20, ha="right")
        axes.set(ylabel=f"size of the gradient\n({floor:.0e} stands for less, too)", yscale="log")
        axes.grid(axis="y", alpha=0.3)
        axes.legend(loc="center left", bbox_to_anchor=(1, 0.5))
