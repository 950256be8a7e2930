"""Draws `NetworkTradeoff`s as the paper's Figure 3: one box per network. Computes nothing of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gcc_search.analysis.figures import COLOURS, GOLDEN
from gcc_search.analysis.given_up import say_reach
from gcc_search.analysis.published import PublishedTradeoff
from gcc_search.analysis.tradeoff import NetworkTradeoff, Spread

AXIS = "accuracy tradeoff, points (positive = accuracy lost)"
KEY = "box: quartiles and median; diamond: mean; whiskers: 1.5 IQR\nbelow: mean ± sample sd (n trials), points"
STOPPED_KEY = "\nstopped early: in no box, as they have no test accuracy"
GIVEN_UP_KEY = "\ngiven up: scored in that epoch, their baselines after the last one"
PAPER_KEY = "\nsquare and bar: the paper's Fig. 3, mean ± standard deviation"
BOX_WIDTH = 0.5
# Right of the box.
PAPER_PLACE = 0.36


def draw_tradeoff(
    tradeoffs: Sequence[NetworkTradeoff], *, title: str, paper: Sequence[PublishedTradeoff] = ()
) -> Figure:
    """A box per network over its finished trials, each a dot; collapsed trials in a panel with a scale of its own.

    `paper`: its mean and standard deviation beside the boxes of the same networks.
    """
    published = {item.network: item for item in paper}
    figure = Figure(figsize=(max(5.6, 2.4 * len(tradeoffs) + 1.2), 6.2), layout="constrained")
    has_collapsed = any(item.collapsed for item in tradeoffs)
    heights = [1, 3] if has_collapsed else [1]
    panels = figure.subplots(len(heights), sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    _draw_boxes(panels[-1], tradeoffs, published)
    if has_collapsed:
        _draw_collapsed(panels[0], tradeoffs)
    panels[-1].set_xticks(range(len(tradeoffs)), [_label(item, published) for item in tradeoffs], fontsize=9)
    margin = 0.6 if len(tradeoffs) > 1 else 1.0
    panels[-1].set_xlim(-margin, len(tradeoffs) - 1 + margin)
    figure.supylabel(AXIS, fontsize=10)
    panels[0].set_title(f"{title}\n{_keys(tradeoffs)}{PAPER_KEY if published else ''}", loc="left", fontsize=9)
    return figure


def _keys(tradeoffs: Sequence[NetworkTradeoff]) -> str:
    given_up = GIVEN_UP_KEY if any(item.given_up for item in tradeoffs) else ""
    return f"{KEY}{given_up}{STOPPED_KEY if any(item.num_stopped for item in tradeoffs) else ''}"


def _draw_boxes(axes: Axes, tradeoffs: Sequence[NetworkTradeoff], published: Mapping[str, PublishedTradeoff]) -> None:
    boxes = [(place, item.spread_finished) for place, item in enumerate(tradeoffs) if item.spread_finished]
    axes.bxp(
        [_box(spread) for _, spread in boxes],
        positions=[place for place, _ in boxes],
        widths=BOX_WIDTH,
        showfliers=False,
        showmeans=True,
        manage_ticks=False,
        patch_artist=True,
        boxprops={"facecolor": "#EDEDED", "edgecolor": "#404040"},
        medianprops={"color": "#202020", "linewidth": 1.5},
        meanprops={
            "marker": "D",
            "markerfacecolor": "white",
            "markeredgecolor": "#202020",
            "markersize": 6,
            "zorder": 4,
        },
    )
    for place, item in enumerate(tradeoffs):
        _draw_dots(axes, place, item.finished, marker="o")
        if item.network in published:
            _draw_paper(axes, place + PAPER_PLACE, published[item.network])
    axes.axhline(0, color="#202020", linewidth=0.8, linestyle="--", zorder=1)
    low, high = axes.get_ylim()
    # Hundredths of a point are not to look like a fall.
    axes.set_ylim(min(low, -0.5), max(high, 0.5))
    axes.xaxis.grid(False)


def _draw_paper(axes: Axes, place: float, found: PublishedTradeoff) -> None:
    axes.errorbar(
        [place],
        [found.spread.mean.value],
        yerr=[found.spread.sd.value],
        fmt="s",
        color="#202020",
        markerfacecolor="white",
        markersize=6,
        capsize=4,
        zorder=4,
    )


def _draw_collapsed(axes: Axes, tradeoffs: Sequence[NetworkTradeoff]) -> None:
    for place, item in enumerate(tradeoffs):
        _draw_dots(axes, place, item.collapsed, marker="x")
    axes.margins(y=0.25)
    axes.xaxis.grid(False)
    axes.set_ylabel("collapsed,\nown scale", fontsize=9)


def _draw_dots(axes: Axes, place: int, values: Sequence[float], *, marker: str) -> None:
    across = [place + BOX_WIDTH * 0.8 * ((index * GOLDEN) % 1 - 0.5) for index in range(len(values))]
    axes.scatter(across, values, s=18, marker=marker, color=COLOURS[place % len(COLOURS)], alpha=0.75, zorder=3)


def _box(spread: Spread) -> dict[str, float]:
    return {
        "mean": spread.mean,
        "med": spread.median,
        "q1": spread.quartile_1,
        "q3": spread.quartile_3,
        "whislo": spread.whisker_low,
        "whishi": spread.whisker_high,
    }


def _label(item: NetworkTradeoff, published: Mapping[str, PublishedTradeoff]) -> str:
    lines = [item.network, say_spread(item.spread_finished)]
    if item.network in published:
        lines.append(f"paper: {say_published(published[item.network])}")
    if item.collapsed:
        lines.append(f"with collapsed:\n{say_spread(item.spread_all)}")
    if item.given_up:
        lines.append(f"{len(item.given_up)} given up in\n{say_reach(item.given_up)}")
    others = say_counts(item.counts)
    return "\n".join([*lines, *others])


def say_spread(spread: Spread | None) -> str:
    """`-0.31 ± 0.75 (n = 9)`: mean and sample standard deviation in points."""
    if spread is None:
        return "no finished trial"
    deviation = "" if spread.sd is None else f" ± {spread.sd:.2f}"
    return f"{spread.mean:+.2f}{deviation} (n = {spread.n})"


def say_given_up(item: NetworkTradeoff) -> str:
    """`4 of 5 collapsed were given up in epoch 2 to 4 of 6, baselines trained to the end`."""
    if not item.given_up:
        return ""
    number, total = len(item.given_up), len(item.collapsed)
    who = f"{number} of {total}" if number < total else f"{number}"
    verb = "was" if number == 1 else "were"
    return f"{who} collapsed {verb} given up in {say_reach(item.given_up)}, baselines trained to the end"


def say_published(found: PublishedTradeoff) -> str:
    """`-0.32 ± 0.75`: the paper's mean and standard deviation in points; it does not say of how many networks."""
    return f"{found.spread.mean.value:+.2f} ± {found.spread.sd.value:.2f}"


def say_counts(counts: dict[str, int]) -> list[str]:
    """`2 collapsed, 1 diverged`: trials that did not finish, two statuses a line."""
    words = [f"{number} {_plain(status)}" for status, number in counts.items() if status != "finished"]
    return [", ".join(words[start : start + 2]) for start in range(0, len(words), 2)]


def _plain(status: str) -> str:
    return "stopped early" if status == "stopped" else status
