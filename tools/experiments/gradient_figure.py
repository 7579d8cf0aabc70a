"""The figure of tools/experiments/gradient_flow.py, from its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from gradients import GATES

from captioner.text.vocabulary import END, SPECIAL_WORDS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

BLUE, GREEN, RED, BLACK = "#0072B2", "#009E73", "#D55E00", "#000000"
"""Of Okabe and Ito's colours, which nobody confuses; the style of the line tells them apart in grey print too."""

STYLES = ((BLUE, "-"), (RED, "--"), (GREEN, "-."), (BLACK, "-"))
"""Colour and line of each cell, in the order of the runs."""

FLOOR, CEILING = 1e-12, 1e6
"""Of the axis of gradient norms; curves leave the figure below."""

COLOR_MAP = "cividis"
"""Perceptually uniform, and the same to those who do not see red or green."""

SIZE = (15.0, 9.0)
"""Inches."""


def draw(runs: Sequence[Mapping[str, Any]]) -> Figure:
    """Draws all that was measured.

    Args:
        runs: As tools/experiments/gradient_flow.py gives them: of each cell one that was not clipped, then one that
            was.

    Returns:
        A figure that is not registered with pyplot.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    free, clipped = runs[::2], runs[1::2]
    threshold = clipped[0]["clip"]
    with rc_context({"font.size": 11, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=SIZE, layout="constrained")
        upper, lower = figure.subfigures(2, 1)  # type: ignore[misc]
        shared = upper.subplots(1, 3, sharey=True)
        for axis, shown, when, title in (
            (shared[0], free, "initial", "at initialisation"),
            (shared[1], free, "trained", "after training"),
            (shared[2], clipped, "trained", f"after training, gradients clipped at {threshold:g}"),
        ):
            _draw_norms(axis, [(run["name"], run[when]) for run in shown])
            axis.set_title(title)
        shared[0].set_ylabel(r"$\|\partial\,loss_T\,/\,\partial h_t\|$, as a share of that at t = T")
        left, right = lower.subfigures(1, 2, width_ratios=(8, 5))
        gradient, loss = left.subplots(1, 2)
        explosive = [run for run in runs if run["scale"] != 1]
        _draw_training(gradient, explosive, "gradient_norms", "gradient of a whole step, norm before clipping")
        gradient.set_yscale("log")
        gradient.axhline(threshold, color="grey", lw=0.8)
        _draw_training(loss, explosive, "losses", "loss, nats a word")
        _draw_gates(right, next(run["gates"] for run in clipped if "gates" in run))
    return figure


def _draw_norms(axis: Axes, curves: Sequence[tuple[str, Mapping[str, Any]]]) -> None:
    """Norms as shares of that at distance 0, so that all cells begin at 1."""
    for (name, measured), (color, line) in zip(curves, STYLES, strict=True):
        first = measured["h"][0]
        label = f"{name}, σ = {measured['largest_singular_value']:.2f}"
        axis.plot([norm / first for norm in measured["h"]], line, color=color, lw=2, label=label)
        if "c" in measured:
            # What a step hands on along c; the last one hands on nothing.
            shares = [norm / first for norm in measured["c"][1:]]
            axis.plot(range(1, len(shares) + 1), shares, ":", color=color, lw=2, label=f"{name}, $\\partial c_t$")
    axis.axhline(1, color="grey", lw=0.8)
    axis.set(yscale="log", ylim=(FLOOR, CEILING), xlabel="distance T − t in words")
    axis.legend(fontsize=9, frameon=False, title="σ: largest singular value of $W_h$", title_fontsize=9)


def _draw_training(axis: Axes, runs: Sequence[Mapping[str, Any]], values: str, label: str) -> None:
    for run, (color, line) in zip(runs, ((RED, "--"), (BLUE, "-")), strict=True):
        name = f"clipped at {run['clip']:g}" if run["clip"] else "not clipped"
        axis.plot(run[values], line, color=color, lw=1.3, label=name)
    axis.set(xlabel="step of training", ylabel=label, title=f"{runs[0]['name']}, as it learns")
    axis.legend(fontsize=9, frameon=False)


def _draw_gates(figure: SubFigure, gates: Mapping[str, Any]) -> None:
    """A strip a gate: a row a unit, the most open ones on top, and a column a word."""
    words = ["⟨end⟩" if word == SPECIAL_WORDS[END] else word for word in gates["words"]]
    strips = figure.subplots(len(GATES), 1, sharex=True)
    for axis, gate in zip(strips, GATES, strict=True):
        values = np.array(gates[gate]).T  # (units, words)
        order = values.mean(axis=1).argsort()[::-1]
        image = axis.imshow(values[order], cmap=COLOR_MAP, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
        axis.set(ylabel=f"{gate}\nmean {values.mean():.2f}", yticks=[])
        axis.tick_params(length=0)
    strips[0].set_title("gates of the LSTM after training, a row a unit")
    strips[-1].set_xticks(range(len(words)), words, rotation=60, ha="right", rotation_mode="anchor")
    figure.colorbar(image, ax=strips, ticks=[0, 0.5, 1]).set_ticklabels(["closed", "half", "open"])
