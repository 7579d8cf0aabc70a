"""Every configuration that is shipped can be parsed, and says what its name promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from train_embedded import EMBEDDED, SMALL, Mean, Recipe

from captioner import checkpoint
from captioner.embedded import checkpoint_of
from captioner.experiment import parse
from captioner.quantisation import are_rounded

CONFIGS = Path(__file__).parents[1] / "configs"
RUNS = sorted(path for path in CONFIGS.glob("*.yaml") if not path.stem.endswith("variants"))  # changes to one of them


@pytest.mark.usefixtures("without_instantiation")
@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_shipped_configuration_is_parsed(path: Path) -> None:
    config = parse(["--config", str(path)]).config
    assert config["trainer"]["default_root_dir"] == f"runs/{path.stem}"
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
    assert model["encoder"] == encoder


@pytest.mark.usefixtures("without_instantiation")
@pytest.mark.parametrize("recipe", [EMBEDDED, SMALL], ids=["embedded", "small"])
def test_what_trains_an_embedded_model_is_parsed(recipe: Recipe) -> None:
    members: dict[str, int] = {}
    for name, phase in recipe.phases.items():
        if isinstance(phase, Mean):
            [made] = {members[run] for run in phase.runs}
            assert max(phase.members, default=0) < made
            members[name] = len(phase.members) or made
            continue
        assert all(before in members for before in phase.before)
        config = parse(["--config", str(CONFIGS / phase.config), *phase.changes.split()]).config
        members[name] = config["model"]["decoder"]["members"]
        assert len(phase.before) in (0, 1, members[name])
    assert all(max(recipe.end.members, default=0) < members[run] for run in recipe.end.runs)
    assert json.loads(recipe.card.read_text()).keys() == {"description", "trained with", "speed", "limits", "licence"}


@pytest.mark.parametrize(("recipe", "name"), [(EMBEDDED, "default"), (SMALL, "small")], ids=["embedded", "small"])
def test_an_embedded_file_is_what_its_recipe_makes(recipe: Recipe, name: str) -> None:
    content = checkpoint.read(checkpoint_of(name))
    kernels = {tensor: weight for tensor, weight in content.weights.items() if weight.ndim > 2}
    assert recipe.end.rounded is not None
    wanted = {tensor for tensor in kernels if tensor.startswith(recipe.end.rounded)}
    assert {tensor for tensor, weight in kernels.items() if are_rounded(weight)} == wanted != set()
    assert content.card["mean of checkpoints"] == len(recipe.end.runs)
    card = json.loads(recipe.card.read_text())
    assert {key: content.card[key] for key in card} == card


def test_no_configuration_is_missing() -> None:
    assert {path.stem for path in CONFIGS.glob("*.yaml")} >= {"show_and_tell", "show_attend_tell", "flickr8k", "tiny"}
