"""The embedded model's CNN is timm's."""

from __future__ import annotations

import pytest
import timm
import torch

from captioner.models.efficientnet_lite import VARIANTS, EfficientNetLite


@pytest.mark.parametrize("name", VARIANTS)
def test_it_is_the_network_of_timm_to_the_bit(name: str) -> None:
    torch.manual_seed(1)
    reference = timm.create_model(name).eval()
    for buffer in reference.buffers():  # statistics other than those of a new network
        if buffer.is_floating_point():
            buffer.uniform_(0.5, 2)
    weights = {key: value for key, value in reference.state_dict().items() if not key.startswith("classifier.")}
    network = EfficientNetLite(name).eval()
    assert list(network.state_dict()) == list(weights)
    network.load_state_dict(weights)
    images = torch.randn(2, 3, 97, 64)
    with torch.inference_mode():
        assert torch.equal(network(images), reference.forward_features(images))  # type: ignore[operator]


@pytest.mark.parametrize("name", VARIANTS)
def test_its_preprocessing_is_that_of_timm(name: str) -> None:
    published = timm.create_model(name).pretrained_cfg
    for key, value in EfficientNetLite.pretrained_cfg.items():
        assert published[key] == value  # type: ignore[index]


@pytest.mark.parametrize("size", [64, 97, 224, 260])
def test_it_knows_its_maps_shape_without_computing(size: int) -> None:
    network = EfficientNetLite("tf_efficientnet_lite0").eval()
    with torch.inference_mode():
        assert network.map_shape(size) == network(torch.randn(1, 3, size, size)).shape[1:]


def test_first_weights_are_drawn_as_by_timm() -> None:
    torch.manual_seed(1)
    own, reference = EfficientNetLite("tf_efficientnet_lite0"), timm.create_model("tf_efficientnet_lite0")
    for name, weights in own.named_parameters():
        expected = reference.get_parameter(name)
        if weights.numel() > 5000:
            assert weights.std().item() == pytest.approx(expected.std().item(), rel=0.05)


def test_folded_batch_norm_gives_the_same_maps() -> None:
    torch.manual_seed(1)
    network = EfficientNetLite("tf_efficientnet_lite0").eval()
    for name, value in network.state_dict().items():
        if "bn" in name and value.is_floating_point():
            value.uniform_(0.5, 1.5)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        expected = network(images)
        network.fold_batch_norm()
        assert not [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)
