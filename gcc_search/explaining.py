"""`gcc-search explain`: heatmaps of trained networks and their baselines on test images or any files, as a figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from torch import Tensor

from gcc_search.analysis.bootstrap import Floats
from gcc_search.analysis.explanations import Block, Explanations, View, num_shown
from gcc_search.analysis.explanations_figure import draw_explanations
from gcc_search.analysis.figures import render_as
from gcc_search.atomic import place_of, write_atomically
from gcc_search.errors import DataError, ResultsError, SpaceError
from gcc_search.posthoc import parse_methods, posthoc_heatmaps
from gcc_search.preparation import choose_device, prepare_images
from gcc_search.results.schema import NETWORK_FILE
from gcc_search.saliency.geometry import apply_transforms
from gcc_search.saliency.ssim import structural_similarity
from gcc_search.saying import say
from gcc_search.targets import check_here, check_target
from gcc_search.trained import Trained, open_trained
from gcc_search.training.datasets import eval_crop_of
from gcc_search.training.evaluation import explain
from gcc_search.training.evaluation_plan import Evaluation
from gcc_search.training.examples import example_indices, to_pixels
from gcc_search.training.image_files import read_image_files
from gcc_search.training.image_set import ImageSet
from gcc_search.training.network import Network
from gcc_search.training.passes import Passes
from gcc_search.trial import evaluation_of

POSTHOC_BATCH = 8
SUFFIXES = (".png", ".svg", ".pdf")
# With which a figure of ours says what it is, in its metadata.
_MARK = "gcc-search explain"


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What `explain` is asked for: image files, or so many test images; `methods` as typed.

    Args:
        force: write `out` whatever is there.
    """

    places: tuple[Path, ...]
    out: Path
    files: tuple[Path, ...] = ()
    test: int | None = None
    methods: str | None = None
    data_root: Path | None = None
    device: str | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """The images of a figure. `chosen`: their positions in `images`. `labels`: true classes, None for any files."""

    images: ImageSet
    chosen: Tensor
    evaluation: Evaluation
    labels: tuple[str, ...] | None


def explain_networks(wanted: Wanted, console: Console) -> Explanations:
    """Computes the heatmaps, draws them into `wanted.out`, and returns what was drawn.

    Raises:
        SpaceError: options that do not go together, or an unknown method.
        ResultsError, WeightsError: a place that is no trial and no export, or torn; networks that see different images;
            `wanted.out` is one of the inputs, or another file than a figure of ours.
        DataError: images that are missing or cannot be decoded. ResourceError: a GPU that is not there.
    """
    _check(wanted)
    methods, device = parse_methods(wanted.methods), choose_device(wanted.device)
    networks = _with_baselines(wanted, console)
    for line in dict.fromkeys(line for network in networks for line in network.notes):
        say(console, line)
    _check_comparable(networks, images_too=wanted.test is not None)
    shown = _choose_images(wanted, networks, device, console)
    explanations = make_explanations(networks, shown, methods, console)
    kinds = sorted({network.settings.network for network in networks})
    title = f"{networks[-1].settings.data.name}: heatmaps of {', '.join(kinds)}, a row for each network"
    told = f"{_MARK} {' '.join(place_of(network.place) for network in networks)}"
    content = render_as(
        lambda: draw_explanations(explanations, title=title), wanted.out.suffix[1:], title=title, description=told
    )
    write_atomically(wanted.out, content)
    say(console, f"wrote {wanted.out}")
    return explanations


def _check(wanted: Wanted) -> None:
    if bool(wanted.files) == (wanted.test is not None):
        got = "both" if wanted.files else "neither"
        raise SpaceError(f"explain: must be given either --images FILES or --test N, got {got}")
    check_here("--out", wanted.out)
    if wanted.out.suffix not in SUFFIXES:
        raise SpaceError(f"--out: must end in {', '.join(SUFFIXES)}, got {wanted.out}")
    check_target("--out", wanted.out, inputs=[*wanted.files, *wanted.places])
    if wanted.out.exists() and not wanted.force and not _is_ours(wanted.out):
        rule = "must be a new name or a figure of explain to replace, got another file"
        raise ResultsError(f"--out: {wanted.out}: {rule}; choose another, or add --force")


def _is_ours(path: Path) -> bool:
    content = path.read_bytes()
    # PDF has it in two bytes a letter where a place has letters beyond Latin ones.
    return _MARK.encode() in content or _MARK.encode("utf-16-be") in content


def _with_baselines(wanted: Wanted, console: Console) -> tuple[Trained, ...]:
    """The networks asked for, each trial after its baseline; every one once."""
    found: dict[Path, Trained] = {}
    for place in wanted.places:
        trained = open_trained(place, data_root=wanted.data_root)
        folder = trained.baseline
        if folder is not None and (folder / NETWORK_FILE).exists():
            found.setdefault(folder.resolve(), open_trained(folder, data_root=wanted.data_root))
        elif folder is not None:
            say(console, f"{place}: shown without its baseline, which is not in {folder}")
        found.setdefault(place.resolve(), trained)
    return tuple(_with_other_names(list(found.values())))


def _with_other_names(networks: list[Trained]) -> list[Trained]:
    """Those of one name are told apart by where they lie."""
    names = [network.name for network in networks]
    return [
        replace(network, name=_longer_name(network)) if names.count(network.name) > 1 else network
        for network in networks
    ]


def _longer_name(network: Trained) -> str:
    place = network.place.resolve()
    if place.is_file():
        return place.name
    return f"{place.parent.parent.name}/{network.name if network.name != 'baseline' else place.name}"


def _check_comparable(networks: Sequence[Trained], *, images_too: bool) -> None:
    first, *others = networks
    for network in others:
        for what, ours, theirs in (
            ("image_size", first.settings.recipe.image_size, network.settings.recipe.image_size),
            ("evaluation crop", eval_crop_of(first.settings.data.name), eval_crop_of(network.settings.data.name)),
            ("evaluation seed", first.settings.evaluation.seed, network.settings.evaluation.seed),
            ("images", first.fingerprint[:12], network.fingerprint[:12]),
        ):
            if ours != theirs and (images_too or what != "images"):
                rule = f"{what} must be that of {first.place}, {ours}"
                raise ResultsError(f"{network.place}: {rule}, got {theirs}; explain them one by one")


def _choose_images(wanted: Wanted, networks: Sequence[Trained], device: torch.device, console: Console) -> Shown:
    settings = networks[-1].settings
    evaluation = evaluation_of(settings, device, insertion=False)
    asked = len(wanted.files) or wanted.test or 0
    count = num_shown(asked, networks=len(networks))
    if wanted.files:
        images = read_image_files(wanted.files, side=round(evaluation.image_size / evaluation.crop))
        chosen, labels = torch.arange(count), None
    else:
        data = prepare_images(settings.data, evaluation.image_size, console)
        if data.fingerprint != networks[-1].fingerprint:
            raise DataError(
                f"{networks[-1].place}: --test needs the images it was trained on, got others; "
                "name their folder with --data-root, or show files with --images"
            )
        images, count = data.test, min(count, len(data.test))
        chosen = example_indices(len(images), evaluation.seed, count)
        labels = tuple(data.classes[int(images.labels[index])] for index in chosen)
    if count < asked:
        say(console, f"showing {count} of {asked} images: a figure holds 24 rows, one for each image and network")
    return Shown(images=images, chosen=chosen, evaluation=evaluation, labels=labels)


def make_explanations(
    networks: Sequence[Trained], shown: Shown, methods: tuple[str, ...], console: Console
) -> Explanations:
    """Every heatmap of the figure."""
    evaluation = shown.evaluation
    x = evaluation.show(shown.images, shown.chosen)
    transforms = evaluation.transforms(len(shown.images)).select(shown.chosen.to(x.device))
    moved = apply_transforms(transforms, x, evaluation.image_size)
    pictures, moved_pictures = to_pixels(x).cpu().numpy(), to_pixels(moved).cpu().numpy()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("explaining", total=len(networks) * len(x) * (1 + len(methods)))
        views = [_views_of(network, shown, x, methods, lambda done: bar.advance(task, done)) for network in networks]
    return Explanations(
        methods=methods,
        blocks=tuple(
            Block(
                name=shown.images.names[int(index)],
                label=None if shown.labels is None else shown.labels[row],
                picture=pictures[row],
                moved_picture=moved_pictures[row],
                crop=tuple(transforms.boxes[row].tolist()),
                mirrored=bool(transforms.flips[row]),
                views=tuple(of_network[row] for of_network in views),
            )
            for row, index in enumerate(shown.chosen)
        ),
    )


def _views_of(
    trained: Trained, shown: Shown, x: Tensor, methods: tuple[str, ...], on_step: Callable[[int], None]
) -> list[View]:
    """One network's view of each image."""
    evaluation = shown.evaluation
    network = trained.network.to(evaluation.device)
    explained = explain(Passes(network), shown.images, evaluation, chosen=shown.chosen)
    rows = torch.arange(len(x), device=x.device)
    heat, moved, of_moved = explained.heatmaps(rows, evaluation.image_size)
    consistency = structural_similarity(moved, of_moved).tolist()
    on_step(len(x))
    others = [_others_of(network, x, explained.seen.predicted, method, on_step) for method in methods]
    views = []
    for row in range(len(x)):
        label = int(explained.seen.predicted[row])
        views.append(
            View(
                network=trained.name,
                predicted=trained.class_name(label),
                confidence=float(explained.seen.confidence[row]),
                heat=_numpy(heat[row]),
                moved_heat=_numpy(moved[row]),
                heat_of_moved=_numpy(of_moved[row]),
                consistency=consistency[row],
                others=tuple(heatmaps[row] for heatmaps in others),
            )
        )
    return views


def _others_of(
    network: Network, x: Tensor, classes: Tensor, method: str, on_step: Callable[[int], None]
) -> list[Floats]:
    """Another method's heatmap of each image, a few at a time: some take minutes."""
    heatmaps: list[Floats] = []
    for start in range(0, len(x), POSTHOC_BATCH):
        part = slice(start, start + POSTHOC_BATCH)
        heatmaps += list(posthoc_heatmaps(network, x[part], classes[part].tolist(), method).astype(np.float64))
        on_step(len(x[part]))
    return heatmaps


def _numpy(heatmap: Tensor) -> Floats:
    values: Floats = heatmap.double().cpu().numpy()
    return values
