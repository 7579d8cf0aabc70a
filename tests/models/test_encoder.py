"""Encoders of torchvision and timm: shapes, weights, freezing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from captioner.errors import CaptionerError
from captioner.models.backbones import PACKAGED_WEIGHTS, torchvision_names
from captioner.models.encoder import PROJECTION, GridEncoder

LITE = "timm/tf_efficientnet_lite0"

SMALL_FAMILY_MEMBERS = (
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "vgg11_bn",
    "timm/convnext_atto",
    "timm/regnetx_002",
    "timm/resnet10t",
    "timm/vgg11",
    LITE,
)


@pytest.mark.parametrize("name", SMALL_FAMILY_MEMBERS)
def test_a_cnn_gives_the_grid_that_it_announces(name: str) -> None:
    encoder = GridEncoder(name).eval()
    rows, columns = encoder.grid_shape(96)
    grid = encoder(torch.randn(2, 3, 96, 96))
    assert grid.shape == (2, rows * columns, encoder.channels)


def test_cells_run_row_by_row() -> None:
    encoder = GridEncoder("resnet18").eval()
    images = torch.randn(1, 3, 96, 128)
    features = encoder.trunk(images)
    assert features.shape[2:] == (3, 4)
    torch.testing.assert_close(encoder(images)[0, 1 * 4 + 2], features[0, :, 1, 2], rtol=1e-4, atol=1e-5)


def test_torchvision_grid_is_what_the_network_pools() -> None:
    torch.manual_seed(1)
    network = torchvision.models.resnet18(weights=None).eval()
    encoder = GridEncoder("resnet18").eval()
    encoder.trunk.load_state_dict({k: v for k, v in network.state_dict().items() if not k.startswith("fc.")})
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(network.fc(encoder(images).mean(1)), network(images), rtol=1e-4, atol=1e-5)


def test_names_that_have_no_grid_are_refused_with_those_that_have() -> None:
    for name in ("mnasnet1_0", "googlenet", "inception_v3", "vit_b_16", "resnet19"):
        with pytest.raises(
            CaptionerError, match=f"encoder '{name}' is not supported; (choose|did you mean) "
        ) as caught:
            GridEncoder(name)
        assert "\n" not in str(caught.value)


def test_all_names_on_offer_belong_to_families_that_are_tried_here() -> None:
    tried = tuple(name.split("_")[0].rstrip("0123456789") for name in SMALL_FAMILY_MEMBERS)
    untried = {
        name for name in torchvision_names() if not name.startswith((*tried, "alexnet", "resnext", "wide_resnet"))
    }
    assert not untried


@pytest.mark.parametrize("name", ["timm/vit_tiny_patch16_224", "timm/swin_tiny_patch4_window7_224"])
def test_a_transformer_of_timm_is_refused(name: str) -> None:
    with pytest.raises(CaptionerError, match=f"{name} gives .* no grid"):
        GridEncoder(name)


def test_an_unknown_name_of_timm_is_refused_with_similar_ones() -> None:
    with pytest.raises(CaptionerError, match="timm has no network 'resnet51'; did you mean .*resnet"):
        GridEncoder("timm/resnet51")


@pytest.mark.parametrize("name", PACKAGED_WEIGHTS)
def test_packaged_weights_give_the_networks_logits(name: str) -> None:
    module, cls = PACKAGED_WEIGHTS[name]
    package = pytest.importorskip(module, reason="the extra captioner[weights] is not installed")
    packaged = torch.load(getattr(package, cls).get_model_file_path(), weights_only=True)
    network = timm.create_model(name.removeprefix("timm/"), pretrained=False).eval()
    network.load_state_dict(dict(zip(network.state_dict(), packaged.values(), strict=True)))
    encoder = GridEncoder(name, "package").eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        logits = network.classifier(encoder(images).mean(1))  # type: ignore[operator]
        torch.testing.assert_close(logits, network(images), rtol=1e-3, atol=1e-4)


def test_no_package_holds_weights_of_resnet18() -> None:
    with pytest.raises(CaptionerError, match="no package holds weights of resnet18; packaged are timm/tf_eff"):
        GridEncoder("resnet18", "package")


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_from_a_file(tmp_path: Path, suffix: str) -> None:
    state = torchvision.models.resnet18(weights=None).state_dict()
    file = tmp_path / f"weights{suffix}"
    save_file(state, file) if suffix == ".safetensors" else torch.save(state, file)
    encoder = GridEncoder("resnet18", str(file))
    assert torch.equal(encoder.trunk.get_parameter("conv1.weight"), state["conv1.weight"])


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "weights.pth"
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), file)
    with pytest.raises(CaptionerError, match=r"weights\.pth do not fit resnet34"):
        GridEncoder("resnet34", str(file))


def test_a_checkpoint_as_the_cnns_weights_is_told_with_the_options_for_it(checkpoint: Path) -> None:
    with pytest.raises(CaptionerError, match=r"is a captioner's checkpoint; .* set model\.start\.checkpoint to it and"):
        GridEncoder("resnet18", str(checkpoint))


class _Trap:
    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return (Path.touch, (Path("sprung"),))  # type: ignore[return-value]


def test_weights_that_would_run_code_are_refused_unopened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"conv1.weight": _Trap()}, "weights.pth")
    with pytest.raises(CaptionerError, match="no state dict of resnet18 that can be read safely"):
        GridEncoder("resnet18", "weights.pth")
    assert not Path("sprung").exists()


def test_text_in_place_of_weights_is_told(tmp_path: Path) -> None:
    for number, text in enumerate(("task: captioning", "a,b\n1,2\n", "hello")):
        file = tmp_path / f"{number}.pth"
        file.write_text(text)
        with pytest.raises(CaptionerError, match="no state dict of resnet18 that can be read safely"):
            GridEncoder("resnet18", str(file))


def test_a_missing_file_of_weights_is_named() -> None:
    with pytest.raises(CaptionerError, match=r"encoder weights nowhere\.pth: no such file"):
        GridEncoder("resnet18", "nowhere.pth")


def test_a_new_encoder_is_frozen_and_its_batch_norm_does_not_drift() -> None:
    encoder = GridEncoder("resnet18").train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    grid = encoder(torch.randn(4, 3, 64, 64))
    assert not grid.requires_grad
    assert encoder.is_frozen
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_training_from_a_stage_on_leaves_the_stages_before_and_all_statistics_alone() -> None:
    encoder = GridEncoder("resnet18")
    encoder.train_from("layer3")
    encoder.train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    encoder(torch.randn(4, 3, 64, 64)).square().mean().backward()
    for name, parameter in encoder.named_parameters():
        assert (parameter.grad is not None) == ("layer3" in name or "layer4" in name), name
    assert all(torch.equal(before[name], value) for name, value in encoder.state_dict().items())


def test_stochastic_depth_acts_in_trained_stages_alone() -> None:
    encoder = GridEncoder("efficientnet_b0").train()
    assert not any(module.training for module in encoder.trunk.modules())
    encoder.train_from("6")
    training = {name.split(".")[0] for name, module in encoder.trunk.named_modules() if module.training and "." in name}
    assert training == {"6", "7", "8"}


def test_all_trains_everything_and_none_freezes_again() -> None:
    encoder = GridEncoder("resnet18")
    encoder.train_from("all")
    assert all(parameter.requires_grad for parameter in encoder.parameters())
    encoder.train_from(None)
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_an_unknown_stage_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        CaptionerError, match="resnet18 has no stage 'layer9' to train from; choose all or one of conv1, .*layer4"
    ):
        GridEncoder("resnet18").train_from("layer9")


@pytest.mark.parametrize(
    ("name", "stage", "shape"),
    [
        ("resnet18", "layer3", (256, 4, 4)),
        ("vgg11", "8", (256, 16, 16)),
        ("efficientnet_b0", "5", (112, 4, 4)),
        ("timm/resnet18", "layer2", (128, 8, 8)),
        ("timm/convnext_atto", "stages.2", (160, 4, 4)),
        (LITE, "blocks.4", (112, 4, 4)),
    ],
)
def test_an_earlier_stage_gives_a_finer_grid(name: str, stage: str, shape: tuple[int, int, int]) -> None:
    whole, cut = GridEncoder(name).eval(), GridEncoder(name, last_stage=stage).eval()
    assert (cut.channels, *cut.grid_shape(64)) == shape
    assert cut.stages()[-1] == stage
    cut.load_state_dict({key: whole.state_dict()[key] for key in cut.state_dict()})
    seen: list[torch.Tensor] = []
    whole.trunk.get_submodule(stage).register_forward_hook(lambda *passed: seen.append(passed[-1].clone()))
    images = torch.randn(2, 3, 64, 64)
    whole(images)
    assert torch.equal(cut(images), seen[0].flatten(2).transpose(1, 2))


def test_an_unknown_last_stage_is_refused() -> None:
    with pytest.raises(
        CaptionerError, match="resnet18 has no stage 'layer9' to end with; choose one of conv1, .*layer4"
    ):
        GridEncoder("resnet18", last_stage="layer9")


def test_a_projection_shortens_what_the_cnn_sees_and_is_a_stage_of_its_own() -> None:
    whole, short = GridEncoder("resnet18").eval(), GridEncoder("resnet18", feature_size=6)
    assert short.channels == 6
    assert short.stages() == [*whole.stages(), PROJECTION]
    short.trunk.load_state_dict(whole.trunk.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(short.eval()(images), whole(images) @ short.get_parameter("projection.weight").T)
    assert short.is_frozen
    short.train_from(PROJECTION)
    short.train()(images).square().mean().backward()
    assert [name for name, each in short.named_parameters() if each.grad is not None] == ["projection.weight"]
    with pytest.raises(CaptionerError, match="model.encoder.feature_size is 0; it must be at least 1"):
        GridEncoder("resnet18", feature_size=0)


def test_preprocessing_is_the_networks_own() -> None:
    published: Any = timm.create_model("tf_efficientnet_lite0").pretrained_cfg
    transform = GridEncoder(LITE).default_transform(224)
    assert transform.mean == published["mean"]
    assert transform.std == published["std"]
    assert transform.interpolation == "bicubic"
    reference = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    transform = GridEncoder("resnet18").default_transform(256, "crop")
    assert list(transform.mean) == reference.mean
    assert list(transform.std) == reference.std
    assert (transform.size, transform.resize) == (256, "crop")


def test_preprocessing_of_a_network_that_was_trained_in_another_way() -> None:
    class Named(GridEncoder):
        """Nothing but a name: the network itself is large."""

        def __init__(self, name: str) -> None:
            torch.nn.Module.__init__(self)
            self.name = name

    transform = Named("efficientnet_v2_l").default_transform(480)
    assert (transform.mean, transform.std) == ((0.5,) * 3, (0.5,) * 3)
    assert transform.interpolation == "bicubic"
    for name in torchvision_names():
        assert Named(name).default_transform(64).interpolation in ("bilinear", "bicubic")
