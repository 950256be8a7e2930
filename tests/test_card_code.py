"""What a model card tells a stranger to type gives the numbers that stand on the card."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close

from gcc_search.analysis.recommendation import Wish, recommend
from gcc_search.card_code import how_to_load
from gcc_search.exporting import export_recommended
from gcc_search.model_file import ModelFacts, read_model
from gcc_search.results.reader import read_run
from gcc_search.settings import DataSettings
from gcc_search.trained import open_trained
from gcc_search.training.datasets import eval_crop_of, load_dataset
from gcc_search.training.evaluation_plan import Evaluation

ANY = Wish(max_accuracy_drop=100)


@pytest.fixture(scope="module")
def exported(tiny_run, tmp_path_factory):
    """(model, card)."""
    found = recommend(read_run(tiny_run), ANY)
    return export_recommended(found, ANY, tmp_path_factory.mktemp("models") / "model.safetensors")


def code_of(card: str) -> str:
    (code,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    return code


def test_the_cards_code_gives_the_predictions_and_confidences_of_the_test_split(
    exported, shapes, tiny_run, monkeypatch
):
    model, card = exported
    monkeypatch.chdir(model.parent)
    measured = read_run(tiny_run).trials[0].images(["index", "predicted", "confidence"]).to_pylist()
    for row in measured[:12]:
        picture = shapes.test.pixels(torch.tensor([row["index"]]), pinned=False)[0]
        Image.fromarray(picture.permute(1, 2, 0).numpy()).save("IMAGE.png")
        told = {}
        exec(code_of(card.read_text()).replace("IMAGE.jpg", "IMAGE.png"), told)
        confidence, predicted = told["probabilities"].max(0)
        assert predicted == row["predicted"]
        assert confidence.item() == pytest.approx(row["confidence"], abs=1e-5)


def photograph(width: int, height: int) -> Image.Image:
    """Fine enough that it matters how it is scaled."""
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3))
    return Image.fromarray(noise.astype(np.uint8))


def write_folder(root: Path) -> None:
    """Photographs wide, high, small, turned by a tag, with transparency, in grey of 8 and of 16 bits."""
    turned = Image.Exif()
    turned[0x0112] = 6
    kinds = [
        (photograph(400, 200), {}),
        (photograph(200, 300), {}),
        (photograph(31, 17), {}),
        (photograph(300, 200), {"exif": turned}),
        (photograph(120, 90).convert("RGBA"), {}),
        (photograph(120, 90).convert("P"), {"transparency": 3}),
        (photograph(90, 120).convert("L"), {}),
        (Image.fromarray((np.arange(120 * 90).reshape(90, 120) * 6).astype(np.uint16)), {}),
    ]
    for number, (image, how) in enumerate(3 * kinds):
        path = root / f"class_{number % 2}" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        image.save(path, **how)


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.parametrize("size", [64, 224])
def test_the_cards_code_shows_photographs_as_the_evaluation_does(exported, tmp_path, monkeypatch, size):
    write_folder(tmp_path)
    monkeypatch.chdir(exported[0].parent)
    photograph(50, 60).save("IMAGE.jpg")
    data = load_dataset(DataSettings(name="imagefolder", root=tmp_path), image_size=size)
    crop = eval_crop_of("imagefolder")
    evaluation = Evaluation(image_size=size, crop=crop, seed=0, batch_size=1, device=torch.device("cpu"))
    facts = replace(read_model(exported[0])[0], image_size=size, crop=crop)
    told = {}
    exec(code_of(how_to_load(facts, exported[0].name)), told)
    network = open_trained(exported[0]).network
    for split in (data.train, data.validation, data.test):
        for index, name in enumerate(split.names):
            shown = evaluation.show(split, torch.tensor([index]))
            prepared = told["prepare"](tmp_path / name)
            assert_close(prepared, shown, atol=1e-4, rtol=0)
            with torch.no_grad():
                assert_close(told["network"](prepared), network(shown), atol=1e-4, rtol=0)


def test_of_torchvisions_networks_nothing_of_ours_is_needed(exported):
    facts: ModelFacts = replace(read_model(exported[0])[0], network="resnet18")
    code = code_of(how_to_load(facts, "model.safetensors"))
    assert "gcc_search" not in code
    assert "network = torchvision.models.resnet18(num_classes=8)" in code
