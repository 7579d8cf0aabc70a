"""Every configuration that is shipped can be parsed, and says what its name promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from train_embedded import CARD, END, PHASES, Phase, Shortened

from captioner import checkpoint
from captioner.checkpoint.pretrained import DEFAULT, checkpoint_of
from captioner.models.captioner import CaptionerConfig
from captioner.training.run import parse

CONFIGS = Path(__file__).parents[2] / "configs"
RUNS = sorted(path for path in CONFIGS.rglob("*.yaml") if path.parent.name != "sweeps")  # those change one of them


@pytest.mark.usefixtures("without_instantiation")
@pytest.mark.parametrize("path", RUNS, ids=lambda path: "_".join(path.relative_to(CONFIGS).with_suffix("").parts))
def test_a_shipped_configuration_is_parsed(path: Path) -> None:
    config = parse(["--config", str(path)]).config
    name = "_".join(path.relative_to(CONFIGS).with_suffix("").parts)
    assert config["trainer"]["default_root_dir"] == f"runs/{name}"
    assert config["trainer"]["gradient_clip_val"] > 0
    assert config["checkpoint"]["dirpath"] == config["trainer"]["default_root_dir"]
    assert config["checkpoint"]["monitor"] == config["early_stopping"]["monitor"]


@pytest.mark.usefixtures("without_instantiation")
@pytest.mark.parametrize(
    ("name", "attention", "image_input", "encoder"),
    [
        ("show_and_tell", "none", "first_word", "resnet101"),
        ("show_attend_tell", "soft", "initial_state", "resnet101"),
        ("flickr8k", "multiplicative", "initial_state", "timm/tf_efficientnet_lite0"),
    ],
)
def test_a_configuration_is_the_model_it_is_named_after(
    name: str, attention: str, image_input: str, encoder: str
) -> None:
    model = parse(["--config", str(CONFIGS / f"{name}.yaml")]).config["model"]
    assert (model["decoder"]["attention"], model["decoder"]["image_input"]) == (attention, image_input)
    assert model["encoder"]["name"] == encoder


@pytest.mark.usefixtures("without_instantiation")
def test_what_trains_the_embedded_model_is_parsed() -> None:
    made: set[str] = set()
    for name, phase in PHASES.items():
        if isinstance(phase, Phase):
            assert phase.before is None or phase.before in made
            parse(["--config", str(CONFIGS / phase.config), *phase.changes.split()])
        else:
            assert phase.run in made
        made.add(name)
    assert isinstance(PHASES[END], Phase)
    assert json.loads(CARD.read_text()).keys() == {
        "description",
        "trained with",
        "trained on",
        "speed",
        "limits",
        "licence",
    }


def test_the_embedded_file_is_what_its_recipe_makes() -> None:
    content = checkpoint.read(checkpoint_of(DEFAULT))
    [size] = {part.size for part in PHASES.values() if isinstance(part, Shortened)}
    assert isinstance(content.config, CaptionerConfig)
    assert (content.config.feature_size, content.config.decoder.concepts) == (size, "copy")
    card = json.loads(CARD.read_text())
    assert {key: content.card[key] for key in card} == card


def test_no_configuration_is_missing() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} >= {"show_and_tell", "show_attend_tell", "flickr8k", "tiny"}
