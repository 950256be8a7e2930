"""The numbers that the paper prints, each with its table or figure and its cell. None of them is measured here.

A. Sun, P. Phan, P. Nguyen, Staying Consistent with GradCAM. One network each, no intervals. Measures have the names of
measures.py, networks and data sets those of the space files.
"""

from __future__ import annotations

from dataclasses import dataclass

NETWORKS = {"resnet18": "ResNet18", "resnet50": "ResNet50", "convnext_tiny": "ConvNeXT"}
DATA_SETS = {"cub200": "CUB-200", "caltech101": "Caltech101"}


@dataclass(frozen=True, kw_only=True)
class Published:
    """A printed number and where it stands."""

    value: float
    source: str


@dataclass(frozen=True, kw_only=True)
class PublishedLine:
    """A measure of Table 1: percent as accuracy points, consistency x 100."""

    data: str
    network: str
    measure: str
    baseline: Published
    ours: Published


@dataclass(frozen=True, kw_only=True)
class PublishedSpread:
    """Mean and standard deviation as a figure's caption tells them."""

    mean: Published
    sd: Published


@dataclass(frozen=True, kw_only=True)
class PublishedConsistency:
    """Figure 2: SSIM of single images, one network that the paper does not name."""

    data: str
    baseline: PublishedSpread
    ours: PublishedSpread


@dataclass(frozen=True, kw_only=True)
class PublishedTradeoff:
    """Figure 3: accuracy tradeoff in points over networks of random hyperparameters."""

    data: str
    network: str
    spread: PublishedSpread


@dataclass(frozen=True, kw_only=True)
class PublishedSeries:
    """A row of Table 2: top-1 in points over one parameter, `fixed` the two others. beta weighs the paper's p-norm."""

    data: str
    network: str
    parameter: str
    fixed: tuple[tuple[str, float], ...]
    points: tuple[tuple[float, Published], ...]


_COLUMNS = {"top-1 accuracy": "Top-1 Acc (%)", "consistency x 100": "Consistency", "insertion AUC": "IAUC"}

# Per data set and network: (baseline, ours) of accuracy, consistency and insertion AUC.
_TABLE_1 = {
    ("cub200", "resnet18"): ((75.40, 75.97), (74.30, 74.93), (0.55, 0.64)),
    ("cub200", "resnet50"): ((81.99, 81.79), (69.65, 89.64), (0.72, 0.77)),
    ("cub200", "convnext_tiny"): ((85.29, 85.45), (73.35, 74.61), (0.79, 0.77)),
    ("caltech101", "resnet18"): ((92.68, 92.50), (69.67, 83.44), (0.83, 0.82)),
    ("caltech101", "resnet50"): ((94.06, 91.41), (69.35, 84.21), (0.82, 0.85)),
    ("caltech101", "convnext_tiny"): ((94.06, 94.46), (41.00, 87.97), (0.88, 0.80)),
}


def _line(data: str, network: str, measure: str, values: tuple[float, float]) -> PublishedLine:
    # The table's last baseline is called Base.
    rows = ("Base" if network == "convnext_tiny" else "Baseline", "Ours")
    cells = [f"Table 1, {NETWORKS[network]}, {row}, {DATA_SETS[data]}, {_COLUMNS[measure]}" for row in rows]
    baseline, ours = (Published(value=value, source=cell) for value, cell in zip(values, cells, strict=True))
    return PublishedLine(data=data, network=network, measure=measure, baseline=baseline, ours=ours)


TABLE_1 = tuple(
    _line(data, network, measure, values)
    for (data, network), rows in _TABLE_1.items()
    for measure, values in zip(_COLUMNS, rows, strict=True)
)


def _spread(mean: float, sd: float, source: str) -> PublishedSpread:
    return PublishedSpread(
        mean=Published(value=mean, source=f"{source}, mean"),
        sd=Published(value=sd, source=f"{source}, standard deviation"),
    )


FIGURE_2 = PublishedConsistency(
    data="cub200",
    baseline=_spread(0.736, 0.1391, "Figure 2, caption, baseline"),
    ours=_spread(0.7604, 0.1329, "Figure 2, caption, consistency trained model"),
)

FIGURE_3 = tuple(
    PublishedTradeoff(
        data="caltech101", network=network, spread=_spread(mean, sd, f"Figure 3, section 4.2, {NETWORKS[network]}")
    )
    for network, mean, sd in (
        ("convnext_tiny", -0.1057, 0.6717),
        ("resnet18", -0.3151, 0.7494),
        ("resnet50", 2.5918, 6.5049),
    )
)


def _series(parameter: str, fixed: dict[str, float], points: dict[float, float], told: str) -> PublishedSeries:
    cells = {place: f"Table 2, {told}, {parameter} = {place:g}" for place in points}
    return PublishedSeries(
        data="cub200",
        network="resnet50",
        parameter=parameter,
        fixed=tuple(fixed.items()),
        points=tuple((place, Published(value=value, source=cells[place])) for place, value in points.items()),
    )


TABLE_2 = (
    _series("p", {"alpha": 1.0, "beta": 1e-6}, {0.0: 80.62, 1.0: 81.71, 2.0: 81.26}, "first row"),
    # Section 4.3.2 says beta = 1e-6 of this row. Its cell alpha = 1 is the 30.08 that the third row has at beta = 1e-5,
    # and the table's caption says 1e-5.
    _series("alpha", {"beta": 1e-5, "p": 1.0}, {10.0: 0.50, 1.0: 30.08, 0.1: 81.91}, "second row"),
    _series("beta", {"alpha": 1.0, "p": 1.0}, {1e-5: 30.08, 1e-6: 81.71, 1e-7: 80.24}, "third row"),
)
