"""Networks of torchvision and timm, and of a user's own file, fitted to the data: channels, classes, image size, feature map."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from engine.architecture_facts import LEAST_SIZE, TORCHVISION
from engine.architectures import library_of
from engine.catalog import nearest
from engine.errors import UserError
from engine.models.interface import Classifier
from engine.models.tapped import SPLIT, Tapped, tapped
from engine.plugins import builder_of
from engine.text import one_line

# torchvision's networks whose feature map is not what their global pooling reads.
_TAPS = {"squeezenet": "features", "vit": "encoder"}
_SIDES = (32, 64, 96, 128, 160, 192, 224, 256, 384)  # tried where a network cannot take the data's own


def build_library_model(
    name: str, channels: int, classes: int, size: int, features: str | None = None, pretrained: bool = False
) -> Classifier:
    """`torchvision:NAME`, `timm:NAME` or what a plugin registered; draws from torch's global generator.

    UserError where there is no such network, where it cannot take such images, and where its weights are not to be had.
    """
    library, short = library_of(name)
    build = {"torchvision": _torchvision, "timm": _timm, "plugin": _plugin}[library]
    try:
        return build(short, channels, classes, size, features, pretrained)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def still(network: nn.Module) -> None:
    """Turns off what draws random numbers in a training pass (dropout, stochastic depth).

    Such draws could not be repeated by a resumed run, and would differ between the passes of one meta step.
    """
    for module in network.modules():
        for attribute in ("p", "drop_prob", "drop_rate", "attn_drop_rate"):
            # Some networks have a rate of their own, and hand it to a function.
            if isinstance(getattr(module, attribute, None), float) and (attribute.endswith("_rate") or _drops(module)):
                setattr(module, attribute, 0.0)
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0


def _drops(module: nn.Module) -> bool:
    return any(word in type(module).__name__ for word in ("Drop", "StochasticDepth"))


def _images(channels: int, side: int) -> Tensor:
    return torch.zeros(2, channels, side, side)


# -- torchvision


def _torchvision(name: str, channels: int, classes: int, size: int, features: str | None, pretrained: bool) -> Classifier:
    from torchvision import models

    if name not in TORCHVISION:
        likely = nearest(name, TORCHVISION)
        raise UserError(
            f"torchvision has no classifier of that name; {f'did you mean {likely}?' if likely else 'see its models'}"
        )
    family = name.partition("_")[0].rstrip("0123456789")
    options: dict[str, Any] = {}
    side = max(size, LEAST_SIZE.get(name, 1))
    if family == "vit":
        patch = int(name.rpartition("_")[2])
        side = -(-size // patch) * patch
        options["image_size"] = side
    elif family == "maxvit":
        side = -(-size // 224) * 224
        options["input_size"] = (side, side)
    elif name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = models.get_model(name, weights=None, num_classes=classes, **options)
    if pretrained:
        _load_torchvision(network, name, side)
    if channels != 3:
        _fit_channels(network, channels, pretrained)
    still(network)
    default = next((tap for start, tap in _TAPS.items() if name.startswith(start)), None)
    return tapped(network, _images(channels, size), features, default, side if side != size else None)


def _load_torchvision(network: nn.Module, name: str, side: int) -> None:
    """The library's own weights, by its own mechanism; layers of other shapes (the head for other classes) stay as they are."""
    from torchvision import models
    from torchvision.models.vision_transformer import interpolate_embeddings

    try:
        state = models.get_model_weights(name).DEFAULT.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:
        raise _not_to_be_had(error) from error
    if name.startswith("vit"):
        state = interpolate_embeddings(side, int(name.rpartition("_")[2]), state)
    own = network.state_dict()
    network.load_state_dict({k: v for k, v in state.items() if k in own and own[k].shape == v.shape}, strict=False)


def _not_to_be_had(error: Exception) -> UserError:
    why = one_line(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__, 200)
    return UserError(
        f"its pretrained weights are not on this machine and cannot be downloaded ({why}); "
        "give a file instead (checkpoint: FILE), or leave pretrained out"
    )


def _fit_channels(network: nn.Module, channels: int, pretrained: bool) -> None:
    """Another first convolution, whose output has the scale that it had: of trained filters the sum is kept, of random ones the
    variance.
    """
    path, first = next((path, module) for path, module in network.named_modules() if isinstance(module, nn.Conv2d))
    made = nn.Conv2d(
        channels,
        first.out_channels,
        first.kernel_size,  # type: ignore[arg-type]
        first.stride,  # type: ignore[arg-type]
        first.padding,  # type: ignore[arg-type]
        first.dilation,  # type: ignore[arg-type]
        bias=first.bias is not None,
    )
    share = first.in_channels / channels
    with torch.no_grad():
        wanted = torch.arange(channels) % first.in_channels
        trained = first.weight.mean(1, keepdim=True).expand(-1, channels, -1, -1) * share
        made.weight.copy_(trained if pretrained else first.weight[:, wanted] * share**0.5)
        if first.bias is not None and made.bias is not None:
            made.bias.copy_(first.bias)
    parent, _, attribute = path.rpartition(".")
    setattr(network.get_submodule(parent), attribute, made)


# -- timm


def _timm(name: str, channels: int, classes: int, size: int, features: str | None, pretrained: bool) -> Classifier:
    try:
        import timm
    except ImportError:
        raise UserError("timm is not installed; pip install 'mmkd-tui[timm]' brings it") from None
    if not timm.is_model(name.partition(".")[0]):
        likely = nearest(name, timm.list_models())
        raise UserError(
            f"timm has no network of that name; {f'did you mean timm:{likely}?' if likely else 'see timm.list_models()'}"
        )

    def make(side: int, sized: bool, pretrained: bool = False) -> nn.Module:
        options: dict[str, Any] = {"img_size": side} if sized else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = timm.create_model(name, pretrained, in_chans=channels, num_classes=classes, **options)
        still(network)
        return network

    side, sized = _timm_size(make, name, channels, size, features)
    try:
        network = make(side, sized, pretrained)
    except Exception as error:
        if pretrained:
            raise _not_to_be_had(error) from error
        raise UserError(f"timm cannot build it: {one_line(str(error), 200)}") from error
    return _timm_tapped(network, channels, side, size, features)


def _timm_tapped(network: nn.Module, channels: int, side: int, size: int, features: str | None) -> Tapped:
    whole = hasattr(network, "forward_features") and hasattr(network, "forward_head")
    images = _images(channels, size)
    fixed = side if side != size else None
    if features is None and whole:
        try:
            return tapped(network, images, None, SPLIT, fixed)
        except UserError:
            pass  # its features are no tensor: what its pooling reads may be one
    return tapped(network, images, features, None, fixed)


def _timm_size(
    make: Callable[[int, bool], nn.Module], name: str, channels: int, size: int, features: str | None
) -> tuple[int, bool]:
    """The least side that the network takes and is no less than the images', and whether it is built for one side only.

    Tried on networks without numbers, which cost nothing.
    """
    import timm

    config = timm.get_pretrained_cfg(name)
    own = int(config.input_size[-1]) if config is not None else 224
    sides = sorted({size, own, *(side for side in _SIDES if side >= size)})
    failure: Exception | None = None
    while sides:
        side = sides.pop(0)
        for sized in (True, False):
            try:
                with torch.device("meta"):
                    network = make(side, sized)
                    patch = getattr(getattr(network, "patch_embed", None), "patch_size", None)
                    if isinstance(patch, tuple) and side % patch[0]:  # images that are cut off are enlarged to whole patches
                        sides = sorted({*sides, -(-side // patch[0]) * patch[0]})
                        break
                    _timm_tapped(network, channels, side, size, features)
                return side, sized
            except UserError:
                raise
            except (NotImplementedError, RuntimeError) as error:
                if "meta" in str(error).lower():  # it cannot be sketched: trust its own size
                    return own, False
                failure = error
            except Exception as error:
                failure = error
    raise UserError(f"it cannot take images of {size} x {size} pixels, nor enlarged ones: {one_line(str(failure), 200)}")


# -- a user's own


def _plugin(name: str, channels: int, classes: int, size: int, features: str | None, pretrained: bool) -> Classifier:
    builder = builder_of(name)
    try:
        network = builder(channels, classes)
        if isinstance(network, Classifier) and features is None:
            return network
        if not isinstance(network, nn.Module):
            raise UserError(f"its builder gave a {type(network).__name__}, not a torch.nn.Module")
        return tapped(network, _images(channels, size), features, None, None)
    except UserError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {one_line(str(error), 200)}"
        raise UserError(
            f"it cannot be built for {channels} channels, {classes} classes, {size} x {size} pixels: {what}"
        ) from error
