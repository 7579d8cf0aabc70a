"""The encoder: a CNN without its classifier, whose output is a grid of feature vectors v_1 … v_L.

Show, Attend and Tell (Xu et al., 2015), section 3.1.1, calls them annotation vectors: one for each region of the last
convolutional layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from captioner.data.transforms import Transform
from captioner.errors import CaptionerError, first_line
from captioner.models import backbones
from captioner.models.backbones import TIMM_PREFIX, WEIGHTS_NONE
from captioner.models.efficientnet_lite import EfficientNetLite

IMAGES_AT_ONCE = 4
"""Images per forward pass on a CPU without gradients: activations then stay in its cache, and at 288 pixels below the
32 MiB above which malloc maps and unmaps each block."""

PROJECTION = "projection"
"""Name of the stage that projects feature vectors to a lower dimension."""


class GridEncoder(nn.Module):
    """A CNN that maps images to a grid of feature vectors.

    It starts frozen: its parameters have no gradients, whatever ``train()`` says, until `train_from` unfreezes stages.
    Even then, batch norm keeps its pretrained statistics: those of small batches are poor estimates.

    Args:
        name: A CNN of torchvision (``resnet101``) or of timm (``timm/tf_efficientnet_lite0``).
        weights: ``hub`` (downloaded by torchvision or timm), ``package`` (EfficientNet-Lite, from the extra
            ``captioner[weights]``), ``none`` (random), or the path of a state dict of the whole network
            (``.safetensors``, or ``.pth`` with tensors only).
        last_stage: One of `stages`, whose output is the grid; later stages are removed. An earlier stage has a finer
            grid, whose regions have smaller receptive fields. None keeps all.
        feature_size: Length to which a linear map, the stage `PROJECTION`, reduces the CNN's feature vectors, to speed
            up the decoder. None keeps their length.

    Attributes:
        channels: Length of each feature vector.

    Raises:
        CaptionerError: The network is unknown or has no grid, its weights are not available or do not fit, or the size
            is less than 1.
    """

    def __init__(
        self,
        name: str,
        weights: str = WEIGHTS_NONE,
        last_stage: str | None = None,
        feature_size: int | None = None,
    ) -> None:
        super().__init__()
        if feature_size is not None and feature_size < 1:
            raise CaptionerError(f"model.encoder.feature_size is {feature_size}; it must be at least 1")
        self.name = name
        self.last_stage = last_stage
        self.projection: nn.Linear | None = None
        network = backbones.build(name, weights)
        self.trunk = _trunk(network, name).to(memory_format=torch.channels_last)
        if last_stage is not None:
            self._cut_after(last_stage)
        try:
            self.channels, _, _ = self._shape(_PROBE_SIZE)
        except RuntimeError as error:
            if last_stage is None:
                raise
            raise CaptionerError(f"{name} cannot end with stage {last_stage!r}; choose another") from error
        if feature_size is not None:
            self.projection = nn.Linear(self.channels, feature_size, bias=False)
            self.channels = feature_size
        self._first_trained: int | None = None
        self.train_from(None)

    def grid_shape(self, size: int) -> tuple[int, int]:
        """Rows and columns of the grid for square images of ``size`` pixels.

        Raises:
            CaptionerError: The network cannot process such images, for example because they are too small.
        """
        try:
            _, rows, columns = self._shape(size)
        except (RuntimeError, AssertionError) as error:
            raise CaptionerError(
                f"{self.name} cannot read {size} × {size} pixels ({first_line(error)}); "
                "choose another model.encoder.image_size"
            ) from error
        return rows, columns

    def sees_as(self, other: GridEncoder) -> bool:
        """Whether another encoder computes the same grids: the same network with bitwise equal weights."""
        mine, theirs = self.state_dict(), other.state_dict()
        return (
            (self.name, self.last_stage) == (other.name, other.last_stage)
            and mine.keys() == theirs.keys()
            and all(torch.equal(value, theirs[name]) for name, value in mine.items())
        )

    def default_transform(self, size: int, resize: str = "squash") -> Transform:
        """Preprocessing of the network's published weights, at the given size."""
        if self.name.startswith(TIMM_PREFIX):
            published: dict[str, Any] = self.trunk.pretrained_cfg  # type: ignore[assignment]
            mean, std, interpolation = published["mean"], published["std"], published["interpolation"]
        else:
            from torchvision import models

            preset = models.get_model_weights(self.name)["DEFAULT"].transforms()
            mean, std, interpolation = preset.mean, preset.std, preset.interpolation.value
        return Transform(size, resize, interpolation, tuple(mean), tuple(std))  # type: ignore[arg-type]

    def stages(self) -> list[str]:
        """Names of the stages, in the order of the forward pass."""
        return [name for name, _ in self._stages()]

    def train_from(self, stage: str | None) -> None:
        """Unfreeze the network from a stage on.

        Args:
            stage: One of `stages`; ``all`` for the whole network; None to freeze it.

        Raises:
            CaptionerError: There is no such stage.
        """
        names = self.stages()
        if stage is None:
            first = None
        elif stage == "all":
            first = 0
        elif stage in names:
            first = names.index(stage)
        else:
            raise CaptionerError(
                f"{self.name} has no stage {stage!r} to train from; choose all or one of {', '.join(names)}"
            )
        self._first_trained = first
        self.requires_grad_(first == 0)
        for index, (_, module) in enumerate(self._stages()):
            module.requires_grad_(first is not None and index >= first)
        self.train(self.training)

    @property
    def is_frozen(self) -> bool:
        """Whether no stage is trained."""
        return self._first_trained is None

    def train(self, mode: bool = True) -> GridEncoder:
        """Set training mode for the unfrozen stages, except batch norm, whose statistics must not drift."""
        super().train(mode)
        self.trunk.train(mode and not self.is_frozen)
        for index, (_, module) in enumerate(self._stages()):
            module.train(mode and self._first_trained is not None and index >= self._first_trained)
        for module in self.trunk.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Encode a batch of images.

        Args:
            images: Normalized RGB, shape (images, 3, height, width).

        Returns:
            Feature vectors, row by row, shape (images, rows · columns, channels). A frozen network passes gradients on
            to images that require them.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and (images.requires_grad or not self.is_frozen)):
            # Convolutions on a CPU are up to 1.5 times as fast in channels-last format.
            images = images.contiguous(memory_format=torch.channels_last)
            at_once = IMAGES_AT_ONCE if images.is_cpu and not torch.is_grad_enabled() else max(1, len(images))
            return self._project(torch.cat([self._regions(part) for part in images.split(at_once)]))  # type: ignore[no-untyped-call]

    def encode_at_once(self, images: Tensor) -> Tensor:
        """Encode all images in one pass, whatever their number, as a traced graph has to; otherwise as `forward`."""
        return self._project(self._regions(images))

    def _regions(self, images: Tensor) -> Tensor:
        return self._map(self.trunk, images).flatten(2).transpose(1, 2)

    def _project(self, regions: Tensor) -> Tensor:
        return regions if self.projection is None else self.projection(regions.to(self.projection.weight.dtype))

    def _stages(self) -> Iterator[tuple[str, nn.Module]]:
        """Modules with parameters."""
        yield from ((name, part) for name, part in _parts(self.trunk) if any(True for _ in part.parameters()))
        if self.projection is not None:
            yield PROJECTION, self.projection

    def _cut_after(self, stage: str) -> None:
        if stage not in self.stages():
            raise CaptionerError(
                f"{self.name} has no stage {stage!r} to end with; choose one of {', '.join(self.stages())}"
            )
        parts = [name for name, _ in _parts(self.trunk)]
        for name in parts[parts.index(stage) + 1 :]:
            # The network's own forward accesses each of its modules by name.
            self.trunk.set_submodule(name, nn.Identity())

    @staticmethod
    def _map(trunk: nn.Module, images: Tensor) -> Tensor:
        features = getattr(trunk, "forward_features", trunk)(images)
        assert isinstance(features, Tensor)
        return features

    def _shape(self, size: int) -> tuple[int, int, int]:
        if isinstance(self.trunk, EfficientNetLite):
            return self.trunk.map_shape(size)
        # On the meta device nothing is computed: a forward pass takes milliseconds and gives the shape.
        trunk = _meta_copy(self.trunk)
        with torch.no_grad():
            features = self._map(trunk, torch.empty(1, 3, size, size, device="meta"))
        # timm knows the number of channels of the whole network, which identifies a channels-last output.
        channels = None if self.last_stage else getattr(trunk, "num_features", None)
        if features.ndim != 4 or channels not in (None, features.shape[1]):
            raise CaptionerError(
                f"{self.name} gives {tuple(features.shape)}, no grid of (channels, rows, columns); choose a CNN, "
                "such as timm/tf_efficientnet_lite0 or timm/resnet50"
            )
        return features.shape[1], features.shape[2], features.shape[3]


_PROBE_SIZE = 224


def _trunk(network: nn.Module, name: str) -> nn.Module:
    """Build a network up to its last feature map."""
    if isinstance(network, EfficientNetLite):
        return network
    if name.startswith(TIMM_PREFIX):
        if not hasattr(network, "forward_features"):
            raise CaptionerError(f"{name} has no feature map; choose a CNN, such as timm/tf_efficientnet_lite0")
        return network
    if isinstance(getattr(network, "features", None), nn.Module):
        return network.features  # type: ignore[return-value]
    trunk = nn.Sequential()
    for child_name, child in network.named_children():
        if isinstance(child, (nn.AdaptiveAvgPool2d, nn.Linear)):
            break
        trunk.add_module(child_name, child)
    return trunk


def _parts(trunk: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Children of the trunk; lists and sequences are flattened once."""
    for name, child in trunk.named_children():
        if name in _CONTAINERS and isinstance(child, (nn.Sequential, nn.ModuleList)):
            yield from ((f"{name}.{inner}", part) for inner, part in child.named_children())
        else:
            yield name, child


_CONTAINERS = frozenset({"blocks", "stages", "layers", "features", "trunk_output"})


def _meta_copy(module: nn.Module) -> nn.Module:
    """Copy a module to the meta device, in evaluation mode, without copying values."""
    import copy

    tensors = [*module.parameters(), *module.buffers()]
    memo: dict[int, Any] = {
        id(tensor): (
            nn.Parameter(tensor.detach().to("meta"), requires_grad=False)
            if isinstance(tensor, nn.Parameter)
            else tensor.to("meta")
        )
        for tensor in tensors
    }
    return copy.deepcopy(module, memo).eval()
