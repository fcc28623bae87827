"""Builds a network of torchvision or timm with random weights and writes what our test needs to see it again.

    .judges/torch/bin/python dump.py LIBRARY MODEL PX CLASSES OUT

writes OUT/state.safetensors, and OUT/io.npz with `images` [2, px, px, 3] and `logits` [2, classes].
"""

import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

# torchvision's compiled operators, which no classifier uses: declared so that it imports, by itself or from timm.
OPERATORS = torch.library.Library("torchvision", "DEF")
for operator in ("nms", "qnms"):
    OPERATORS.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def torchvision_network(name: str, classes: int) -> torch.nn.Module:
    """torchvision's network."""
    from torchvision import models

    options = {"init_weights": True, "aux_logits": False} if name in ("googlenet", "inception_v3") else {}
    return models.get_model(name, weights=None, num_classes=classes, **options)


def network(library: str, name: str, classes: int) -> torch.nn.Module:
    """The network called `name` of `library`, with `classes` logits."""
    if library == "torchvision":
        return torchvision_network(name, classes)
    import timm

    return timm.create_model(name, pretrained=False, num_classes=classes)


def randomize(model: torch.nn.Module) -> None:
    """Gives every batch normalization scale and shift, and every bias a value."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.weight.data.uniform_(0.7, 1.3, generator=generator)
            module.bias.data.normal_(0, 0.3, generator=generator)
        elif getattr(module, "bias", None) is not None and isinstance(module.bias, torch.nn.Parameter):
            module.bias.data.normal_(0, 0.1, generator=generator)


def settle(model: torch.nn.Module, images: torch.Tensor) -> None:
    """Gives every batch normalization the statistics of `images`, so that logits tell something about the network.

    With other ones a signal grows from block to block, until rounding turns into another answer (timm's
    tf_efficientnetv2_s in 32 bits and in 64 then differs by more than its logits do), or fades, until the logits are
    the last biases whatever the image is (torchvision's mobilenet_v2: two images, equal to 6 digits).
    """
    norms = [m for m in model.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    for module in norms:  # these alone: dropout stays off
        module.momentum = 1.0
        module.train()
    with torch.no_grad():
        model(images)
    model.eval()


def main() -> None:
    library, name, px, classes, out = sys.argv[1:]
    torch.manual_seed(0)
    model = network(library, name, int(classes)).eval()
    randomize(model)
    images = torch.rand(2, 3, int(px), int(px)) * 2 - 1
    settle(model, images)
    # In 64 bits, as the test computes: in 32, rounding alone grows to 1.5e-3 in timm's inception_v4.
    model, images = model.double(), images.double()
    last = [m for m in model.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d))][-1]
    with torch.no_grad():
        spread = model(images).std()  # of the order of 1 afterwards, so that differences have a scale
        for parameter in (last.weight, last.bias):
            parameter.div_(spread)
        logits = model(images)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, Path(out, "state.safetensors"))
    np.savez(Path(out, "io.npz"), images=images.permute(0, 2, 3, 1).numpy(), logits=logits.numpy())


if __name__ == "__main__":
    main()
