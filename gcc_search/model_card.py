"""The card beside an exported network: what it is, what it was trained on, how good it is, what that does not say."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gcc_search.analysis.comparison_table import HEADINGS, KEY, line_cells, say_below
from gcc_search.analysis.measures import ACCURACY, Line
from gcc_search.analysis.recommendation import Recommendation
from gcc_search.analysis.recommendation_text import say_settings
from gcc_search.card_code import how_to_load
from gcc_search.model_file import ModelFacts
from gcc_search.plugins import bringers

LIMITS = """\
- **C\\* says that the heatmap moves along when the image is cropped or flipped, beyond what unrelated maps do.** It
  does not say that the heatmap shows what the decision rests on (insertion and deletion AUC are closer to that), nor
  that it lies on the object (box mass), nor anything about other changes of the image: rotation, colour, blur.
- A broad map beside the object can be consistent: read C\\* together with Gini, insertion AUC and, where there is one,
  box mass.
- The heatmap is Grad-CAM before its ReLU, of the network's last stage, for the predicted class. Maps of other
  methods were not trained for.
- The intervals are over the test images of this one network: another seed gives another network, whose values may lie
  outside.
- The trial was chosen among others by its validation split; images of another kind may give other values."""


def model_card(
    found: Recommendation, why: Sequence[str], facts: ModelFacts, images: Mapping[str, Any], *, file: str
) -> str:
    """Markdown with a YAML head, as model hubs have it. `images`: the entry of run.json; `file`: the weights' name."""
    record = found.trial.record
    sections = {
        "What it is": _what_it_is(found, facts),
        "Trained on": _trained_on(facts, images),
        "Settings": f"{say_settings(found)}\n\n{_table(_all_settings(facts.settings))}",
        "Why this one": "\n".join(f"- {line}" for line in why),
        "Measures": _measures(found),
        "How to load it": how_to_load(facts, file),
        "Limits": LIMITS,
        "Made with": _table({**record.versions, "device": record.device, "trained": record.started}),
    }
    body = "\n\n".join(f"## {heading}\n\n{text}" for heading, text in sections.items())
    return f"{_head(found, facts)}\n# {facts.trial}\n\n{body}\n"


def _head(found: Recommendation, facts: ModelFacts) -> str:
    data = json.dumps(found.comparison.data)
    accuracy = next(line.trained for line in found.comparison.lines if line.measure == ACCURACY.name)
    return f"""---
# license: yours to choose; mind those of the images and of the weights it started from
library_name: {"pytorch" if bringers(facts.network) else "torchvision"}
pipeline_tag: image-classification
tags: [image-classification, grad-cam, explainability, gcc-search, {facts.network}]
datasets: [{data}]
metrics: [accuracy]
model-index:
  - name: {json.dumps(facts.trial)}
    results:
      - task: {{type: image-classification}}
        dataset: {{type: {data}, name: {data}, split: test}}
        metrics:
          - {{type: accuracy, value: {accuracy / 100:.4f}, name: top-1 accuracy}}
---
"""


def _what_it_is(found: Recommendation, facts: ModelFacts) -> str:
    return (
        f"A {facts.network} that classifies images of {facts.image_size} x {facts.image_size} pixels into "
        f"{len(facts.classes)} classes, trained so that its Grad-CAM heatmaps move with the image and are sparse: "
        "L = L_CE + alpha L_C + beta L_S (Staying Consistent with GradCAM, equation 4). "
        f"Trial {found.trial.record.id} of a search with gcc-search."
    )


def _trained_on(facts: ModelFacts, images: Mapping[str, Any]) -> str:
    splits = ", ".join(f"{count} images to {_VERBS[split]}" for split, count in images["images"].items())
    return (
        f"{images['name']}: {splits}; {_say_shared(images)}. Fingerprint of images, labels and splits: "
        f"`{facts.data_fingerprint}`.\n\nClasses, in the order of the outputs: {', '.join(facts.classes)}."
    )


def _say_shared(images: Mapping[str, Any]) -> str:
    """What is known of images that are in two splits; of older runs, nobody looked for equal files."""
    repeated = images.get("repeated")
    if repeated is None:
        return "no file is in two of them"
    if not repeated:
        return "no file is in two of them, nor an equal one"
    told = f"{len(repeated)} of the scored files are" if len(repeated) > 1 else "One of the scored files is"
    return (
        f"**{told} equal to one in another split**, so that measures on them say what "
        f"was learned by heart ({repeated[0]})"
    )


_VERBS = {"train": "train", "validation": "validate", "test": "test"}


def _all_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`recipe.lr`, `explanation.alpha`, ... of every setting that is set."""
    flat: dict[str, Any] = {}
    for name, value in settings.items():
        inner = value if isinstance(value, dict) else {"": value}
        flat |= {f"{name}.{key}".rstrip("."): item for key, item in inner.items() if item is not None}
    # Told in full above.
    return {name: value for name, value in flat.items() if name != "data.classes"}


def _measures(found: Recommendation) -> str:
    lines = found.comparison.lines
    return (
        f"On the test split, against the baseline: the same network, images and seed with alpha = beta = 0.\n\n"
        f"{_measure_table(lines)}\n\n{KEY}\n\n" + "\n".join(say_below(found.comparison))
    )


def _measure_table(lines: Iterable[Line]) -> str:
    return markdown_table(HEADINGS, map(line_cells, lines))


def _table(values: Mapping[str, Any]) -> str:
    return markdown_table(("what", "value"), ((name, _shown(value)) for name, value in values.items()))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells as they are, but for blanks around them."""
    lines = [headings, ("---",) * len(headings), *rows]
    return "\n".join(f"| {' | '.join(cell.strip() for cell in line)} |" for line in lines)


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text.replace("|", "\\|")
