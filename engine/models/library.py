"""Networks of torchvision and timm, and of a user's own file, fitted to the data: channels, classes, image size, feature map."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine.architecture_facts import LEAST_SIZE, TORCHVISION
from engine.architectures import LIBRARY_NAME, library_of, likely_name
from engine.catalog import nearest
from engine.dataset_facts import IMAGENET, Normalisation
from engine.errors import UserError
from engine.models.interface import Classifier, Output
from engine.models.tapped import SPLIT, Tapped, tapped
from engine.plugins import builder_of
from engine.text import one_line

# torchvision's networks whose feature map is not what their global pooling reads.
_TAPS = {"squeezenet": "features", "vit": "encoder"}
# What torchvision's published files call by names from before; its own loading renames them, too.
_FORMER = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)"), r"\1\2"),
    (re.compile(r"\.mlp\.linear_1\."), ".mlp.0."),
    (re.compile(r"\.mlp\.linear_2\."), ".mlp.3."),
)
_NORMALISES = ("googlenet", "inception_v3")  # whose published weights torchvision feeds by a normalisation from before
_BEFORE = Normalisation((0.5,) * 3, (0.5,) * 3)
_SIDES = (32, 64, 96, 128, 160, 192, 224, 256, 384)  # tried where a network cannot take the data's own


def build_library_model(
    name: str,
    channels: int,
    classes: int,
    size: int,
    features: str | None = None,
    pretrained: bool = False,
    normalised: Normalisation | None = None,
) -> Classifier:
    """`torchvision:NAME`, `timm:NAME` or what a plugin registered; draws from torch's global generator.

    `pretrained`: images, which are given `normalised` so (None: as ImageNet's), are brought to what its weights are of. UserError
    where there is no such network, where it cannot take such images, and where its weights are not to be had.
    """
    library, short = library_of(name)
    build = {"torchvision": _torchvision, "timm": _timm, "plugin": _plugin}[library]
    try:
        model = build(short, channels, classes, size, features, pretrained)
        if pretrained:
            _renormalise(model, normalised or IMAGENET, published_normalisation(name) or IMAGENET, channels)
        return model
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def published_normalisation(name: str) -> Normalisation | None:
    """Of images for the weights that a network's library publishes; None where that is not known."""
    library, short = library_of(name)
    if library == "torchvision" and short in TORCHVISION:
        from torchvision import models

        made: Any = models.get_model_weights(short).DEFAULT.transforms()
        return _BEFORE if short in _NORMALISES else Normalisation(tuple(made.mean), tuple(made.std))
    if library == "timm":
        import timm

        config = timm.get_pretrained_cfg(short)
        return Normalisation(tuple(config.mean), tuple(config.std)) if config is not None and config.has_weights else None
    return None


def _renormalise(model: Classifier, here: Normalisation, there: Normalisation, channels: int) -> None:
    """From images that are normalised as here to those that the weights are of."""
    assert isinstance(model, Tapped)
    mean, std = here.of(channels)
    scale = [own / theirs for own, theirs in zip(std, there.of(channels).std, strict=True)]
    shift = [(own - theirs) / by for own, theirs, by in zip(mean, *there.of(channels), strict=True)]
    if max(*(abs(one - 1) for one in scale), *(abs(one) for one in shift)) > 1e-5:  # else they are the same
        model.renormalise(scale, shift)


def meant_by(name: str) -> str:
    """A question after what a wrong name of an architecture may be meant for, or "": the networks that libraries have under that
    very name, else the one whose name is most like it.
    """
    exact = [f"torchvision:{name}"] if name in TORCHVISION else []
    with suppress(ImportError):
        import timm

        if LIBRARY_NAME.fullmatch(f"timm:{name}") and timm.is_model(name.partition(".")[0]):
            exact.append(f"timm:{name}")
    names = exact or [near for near in [likely_name(name)] if near]
    quoted = " or ".join(f"'{one}'" for one in names)
    return f"did you mean {quoted}?" if quoted else ""


def refuse_unknown(name: str) -> None:
    """UserError where timm has no network of that name, or no weights of that tag: only timm itself knows."""
    library, short = library_of(name)
    if library != "timm":
        return  # a preset with a wrong name of the others is no preset
    try:
        _check_timm(short)
    except UserError as error:
        raise UserError(f"{name}: {error}") from error


def _check_timm(name: str) -> None:
    try:
        import timm
    except ImportError:
        raise UserError("timm is not installed; pip install 'mmkd-tui[timm]' brings it") from None
    base = name.partition(".")[0]
    if not timm.is_model(base):
        likely = nearest(name, timm.list_models())
        raise UserError(
            f"timm has no network of that name; {f'did you mean timm:{likely}?' if likely else 'see timm.list_models()'}"
        )
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:
        likely = nearest(name, timm.list_pretrained(f"{base}.*"))
        raise UserError(
            f"timm has no weights of that tag; {f'did you mean timm:{likely}?' if likely else f'timm:{base} is without one'}"
        ) from None


def still(network: nn.Module) -> None:
    """Turns off what draws random numbers in a training pass (dropout, stochastic depth).

    Such draws could not be repeated by a resumed run, and would differ between the passes of one meta step.
    """
    for module in network.modules():
        for attribute in ("p", "drop_prob", "drop_rate", "attn_drop_rate"):
            # Some networks have a rate of their own, and hand it to a function.
            if isinstance(getattr(module, attribute, None), float) and (attribute.endswith("_rate") or _drops(module)):
                setattr(module, attribute, 0.0)
        if isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
            module.dropout = 0.0


def present_name(name: str) -> str:
    """What torchvision calls a tensor today whose name may be that of a published file."""
    for pattern, now in _FORMER:
        name = pattern.sub(now, name)
    return name


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
    elif name in _NORMALISES:
        options |= {"aux_logits": False, "init_weights": True}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if family == "mnasnet":
            network = _mnasnet(name, classes)
        else:
            network = models.get_model(name, weights=None, num_classes=classes, **options)
    if pretrained:
        _load_torchvision(network, name, side, classes)
    if channels != 3:
        _fit_channels(network, channels, pretrained)
    still(network)
    default = next((tap for start, tap in _TAPS.items() if name.startswith(start)), None)
    return tapped(network, _images(channels, size), features, default, side if side != size else None)


def _mnasnet(name: str, classes: int) -> nn.Module:
    """torchvision's, but for this: it refuses tensors that come without the metadata of a state_dict, as those from a file of
    safetensors, or from a part of another state_dict.
    """
    from torchvision.models import MNASNet

    class Mnasnet(MNASNet):  # type: ignore[misc]
        def _load_from_state_dict(self, state: Any, prefix: str, metadata: dict[str, Any], *rest: Any) -> None:
            super()._load_from_state_dict(state, prefix, {"version": self._version} | metadata, *rest)

    return Mnasnet(float(name.removeprefix("mnasnet").replace("_", ".")), classes)


def _load_torchvision(network: nn.Module, name: str, side: int, classes: int) -> None:
    """The library's own weights, by its own mechanism; a head for other classes stays as it is.

    UserError where they cannot be had, or do not fill all the rest.
    """
    from torchvision import models
    from torchvision.models.vision_transformer import interpolate_embeddings

    weights = models.get_model_weights(name).DEFAULT
    try:
        published = weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:
        raise _not_to_be_had(error) from error
    state: dict[str, Tensor] = {present_name(theirs): value for theirs, value in published.items()}
    if name.startswith("vit"):
        state = interpolate_embeddings(side, int(name.rpartition("_")[2]), state)
    own = network.state_dict()
    known = len(weights.meta["categories"])
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    head = {k for k, v in own.items() if k in state and state[k].shape == (known, *v.shape[1:]) and len(v) == classes}
    if left := [k for k in own if k not in fitting and k not in head and not k.endswith("num_batches_tracked")]:
        raise UserError(
            f"its published weights fill not all of it: {len(left)} tensors are missing or of another shape "
            f"({one_line(', '.join(left[:3]), 200)}); give a file instead (checkpoint: FILE), or leave pretrained out"
        )
    network.load_state_dict(fitting, strict=False)


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
    _check_timm(name)
    import timm

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
        if not isinstance(network, nn.Module):
            raise UserError(f"its builder gave a {type(network).__name__}, not a torch.nn.Module")
        still(network)
        images = _images(channels, size)
        whole = isinstance(network, Classifier) and features is None
        model = cast(Classifier, network) if whole else tapped(network, images, features, None, None)
        _check_output(model, images, classes)
        return model
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        what = f"{type(error).__name__}: {one_line(str(error), 200)}"
        raise UserError(
            f"it cannot be built for {channels} channels, {classes} classes, {size} x {size} pixels: {what}"
        ) from error


@torch.no_grad()
def _check_output(model: Classifier, images: Tensor, classes: int) -> None:
    """UserError where one pass on `images` [B, channels, h, h] does not give what a Classifier promises."""
    was_training = model.training
    try:
        output: Any = model.eval()(images)
    finally:
        model.train(was_training)
    logits, features = (getattr(output, name, None) for name in Output._fields)
    if not isinstance(logits, Tensor) or not isinstance(features, Tensor):
        raise UserError(
            f"it gives a {type(output).__name__}, not an engine.Output with logits and features, as a Classifier does"
        )
    if logits.dim() != 2 or len(logits) != len(images):
        raise UserError(f"its logits are {_shape(logits)} for {len(images)} images, not [images, classes]")
    if logits.shape[1] != classes:
        raise UserError(
            f"it gives {logits.shape[1]} logits where the data set has {classes} classes; "
            "give its last layer as many outputs as its builder is told (builder(channels, classes))"
        )
    promised = getattr(model, "feature_channels", None)
    if features.dim() != 4 or len(features) != len(images) or features.shape[1] != promised:
        raise UserError(
            f"its feature map is {_shape(features)} for {len(images)} images where its feature_channels are {promised}; "
            "it has to be [images, feature_channels, height, width]"
        )


def _shape(value: Tensor) -> str:
    return str(list(value.shape))
