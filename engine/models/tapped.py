"""A network that only gives logits as a `Classifier`: its last feature map is found by watching one pass, or by a module's name.

Nothing of the network is changed. A hook (or a mode that sees what the global pooling reads) lives for one pass, so copies,
`torch.func.functional_call` and second derivatives work as for any other network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from engine.catalog import nearest
from engine.errors import UserError
from engine.kernels import Arithmetic
from engine.models.interface import Classifier, Output
from engine.text import one_line

POOLED = "the input of the global pooling"  # in place of a module's name
AFFINE = "mmkd.affine"  # the only name in a state_dict that is not the network's own
SPLIT = "forward_features"  # timm's own division of a network into features and head
Layout = Literal["map", "map, channels last", "tokens"]


class Tapped(Classifier):
    """`network` with its feature map taken at `tap`: a module's path, POOLED or SPLIT.

    `size`: pixels along a side to which images are enlarged or reduced first (bilinearly), where the network cannot take others.
    `affine` [2, channels, 1, 1], where there is one: images are multiplied by the first and the second is added, since the
    network's weights are of images that were normalised otherwise. It goes with the weights: a state_dict has it or has it not.
    All other names of tensors are the network's own, so that its library's checkpoints fit and can use what is saved of it.
    """

    affine: Tensor | None

    def __init__(self, network: nn.Module, tap: str, size: int | None = None) -> None:
        super().__init__()
        self.network, self.tap, self.size = network, tap, size
        self.layout: Layout = "map"
        self.example: tuple[int, int, int] | None = None  # [channels, h, w] of the images that it was found with
        self.register_buffer("affine", None, persistent=False)
        self._head: tuple[nn.Linear, ...] = ()  # in a tuple: it is the network's, and no module of this one
        self.prefix = 0  # class, register and distillation tokens, which come first
        self.overwritten = False  # whether what comes after the tap changes its output in place
        self.register_load_state_dict_pre_hook(_take_up)  # type: ignore[no-untyped-call]

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        """The network's own; and what its images get first, where they get anything."""
        found = self.network.state_dict(*args, destination=destination, prefix=prefix, keep_vars=keep_vars)
        if self.affine is not None:
            found[prefix + AFFINE] = self.affine if keep_vars else self.affine.detach()
        return found

    def renormalise(self, scale: Sequence[float], shift: Sequence[float]) -> None:
        """Has images multiplied and added to before the network sees them: a number a channel each."""
        pair = next(self.parameters()).new_tensor([list(scale), list(shift)])
        self.affine = pair[:, :, None, None].clone()

    def forward(self, images: Tensor) -> Output:
        """[B, channels, H, W] -> logits [B, C] and the feature map [B, feature_channels, h, w]."""
        logits, value = self._pass(images)
        return Output(logits, self._as_map(value))

    def features(self, images: Tensor) -> Tensor:
        """[B, channels, H, W] -> [B, feature_channels, h, w]."""
        return self(images).features  # type: ignore[no-any-return]

    def classify(self, features: Tensor) -> Tensor:
        """As every Classifier. UserError where logits are no function of the map alone, as a ViT's of its class token."""
        if self.tap == SPLIT and self.layout != "tokens":
            native = features if self.layout == "map" else features.permute(0, 2, 3, 1)
            logits: Tensor = self.network.forward_head(native)  # type: ignore[operator]
            return logits
        return self._linear()(features.mean((2, 3)))  # type: ignore[no-any-return]

    def _linear(self) -> nn.Linear:
        """The layer that maps the pooled feature map to the logits, held against what the network says."""
        if not self._head:
            linears = [m for m in self.network.modules() if isinstance(m, nn.Linear) and m.in_features == self.feature_channels]
            if not linears or not self._agrees(linears[-1]):
                raise UserError(
                    "this network's logits are no linear function of its pooled feature map, which camkd asks for; "
                    "choose another method, or another teacher"
                )
            self._head = (linears[-1],)
        return self._head[0]

    @torch.no_grad()
    def _agrees(self, linear: nn.Linear) -> bool:
        assert self.example is not None
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(2, *self.example, generator=generator).to(linear.weight.device)
        training = self.training
        logits, features = self.eval()(images)
        self.train(training)
        own = linear(features.mean((2, 3)))
        return own.shape == logits.shape and torch.allclose(own, logits, rtol=1e-3, atol=1e-4 * float(logits.abs().max()))

    def probe(self, images: Tensor) -> None:
        """Finds out by one pass how the feature map is laid out. UserError where there is none."""
        channels, height, width = images.shape[1:]
        self.example = (channels, height, width)
        was_training = self.network.training
        self.network.eval()
        try:
            with torch.no_grad():
                logits, value = self._pass(images) if self.tap in (POOLED, SPLIT) else self._first_pass(images)
        finally:
            self.network.train(was_training)
        _check_logits(logits, images)
        if not isinstance(value, Tensor) or value.dim() not in (3, 4):
            raise UserError("its last feature map is not found; name a module whose output is one (features: MODULE)")
        if value.dim() == 4:
            # Images are square, and so are maps of them.
            last = value.shape[2] != value.shape[3] and value.shape[1] == value.shape[2]
            self.layout = "map, channels last" if last else "map"
            self.feature_channels = value.shape[3] if last else value.shape[1]
            return
        self.layout, self.feature_channels = "tokens", value.shape[2]
        known = getattr(self.network, "num_prefix_tokens", None)
        prefixes = [known] if isinstance(known, int) else [0, 1, 2]
        fitting = [p for p in prefixes if math.isqrt(n := value.shape[1] - p) ** 2 == n > 0]
        if not fitting:
            raise UserError(f"its {value.shape[1]} tokens are no square map; name another module (features: MODULE)")
        self.prefix = fitting[0]

    def _pass(self, images: Tensor) -> tuple[Any, Any]:
        images = fitted(images, self.affine, self.size)
        if self.tap == SPLIT:
            features: Any = self.network.forward_features(images)  # type: ignore[operator]
            return self.network.forward_head(features), features  # type: ignore[operator]
        if self.tap == POOLED:
            with _Pooling() as pooling:
                return _logits(self.network(images)), pooling.read
        with _hooked(self.network.get_submodule(self.tap), self.overwritten) as outputs:
            return _logits(self.network(images)), outputs[-1] if outputs else None

    def _first_pass(self, images: Tensor) -> tuple[Any, Any]:
        """As `_pass`; and finds out whether the module's output stays as it is."""
        versions: list[int] = []

        def note(module: nn.Module, args: Any, output: Any) -> None:
            found = _tensor(output)
            versions.append(found._version if isinstance(found, Tensor) else -1)

        handle = self.network.get_submodule(self.tap).register_forward_hook(note)
        try:
            logits, value = self._pass(images)
        finally:
            handle.remove()
        self.overwritten |= isinstance(value, Tensor) and versions[-1:] != [value._version]
        return logits, value

    def _as_map(self, value: Tensor) -> Tensor:
        if self.layout == "tokens":
            tokens = value[:, self.prefix :]
            side = math.isqrt(tokens.shape[1])
            return tokens.transpose(1, 2).reshape(len(tokens), tokens.shape[2], side, side)
        return value if self.layout == "map" else value.permute(0, 3, 1, 2)


def fitted(images: Tensor, affine: Tensor | None, size: int | None) -> Tensor:
    """[B, channels, H, W] as the network within a Tapped gets them: [B, channels, size, size], or as large as they are."""
    if affine is not None:
        images = images * affine[0] + affine[1]
    if size is not None and images.shape[2:] != (size, size):
        images = F.interpolate(images, (size, size), mode="bilinear", align_corners=False)
    return images


def tapped(
    network: nn.Module,
    images: Tensor,
    features: str | None = None,
    default: str | None = None,
    size: int | None = None,
) -> Tapped:
    """`network` with its tap found. `features` is what the user names, `default` what is known of the network; with neither, one
    pass on `images` shows what the global pooling reads. UserError says what is wrong; other errors are the network's own.
    """
    if features is not None:
        _check_path(network, features)
    model = Tapped(network, features or default or POOLED, size)
    if model.tap == POOLED:
        model.tap = _found(network, model, images)
    if features is not None:
        try:
            model.probe(images)
        except UserError as error:
            raise UserError(f"features: the output of {features} is no feature map: {error}") from error
    else:
        model.probe(images)
    return model


class _Pooling(TorchFunctionMode):
    """Keeps what the last global pooling reads: an adaptive pooling, or a mean over a map's positions."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _ADAPTIVE or (func in _MEANS and _over_positions(args, kwargs)):
            value = args[0] if args else kwargs.get("input")
            if isinstance(value, Tensor) and value.dim() == 4:
                self.read = value
        return func(*args, **kwargs)


_ADAPTIVE = (F.adaptive_avg_pool2d, F.adaptive_max_pool2d)
_MEANS = (torch.mean, Tensor.mean, torch.amax, Tensor.amax)


def _over_positions(args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    dims = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis"))
    return isinstance(dims, (tuple, list)) and {d % 4 for d in dims} == {2, 3}


@contextmanager
def _hooked(module: nn.Module, copied: bool) -> Iterator[list[Any]]:
    """The outputs of a module, as long as the block lasts; `copied`, where they would not stay as they are."""
    outputs: list[Any] = []

    def keep(module: nn.Module, args: Any, output: Any) -> None:
        found = _tensor(output)
        outputs.append(found.clone() if copied and isinstance(found, Tensor) else found)

    handle = module.register_forward_hook(keep)
    try:
        yield outputs
    finally:
        handle.remove()


def _tensor(output: Any) -> Any:
    """The first tensor of what a module gives."""
    return next((x for x in output if isinstance(x, Tensor)), None) if isinstance(output, (tuple, list)) else output


def _found(network: nn.Module, model: Tapped, images: Tensor) -> str:
    """Where the feature map comes from: the pooling, the last module that gives a map with positions, or the last with tokens."""
    order: list[tuple[str, Tensor]] = []
    handles = [
        module.register_forward_hook(lambda m, a, output, name=name: order.append((name, output)))
        for name, module in network.named_modules()
        if name
    ]
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits, read = model._pass(images)
    finally:
        network.train(was_training)
        for handle in handles:
            handle.remove()
    _check_logits(logits, images)
    maps = [(name, out) for name, out in order if _is_map(out)]
    if read is not None and (not maps or maps[-1][1] is read or read.shape[2:].numel() <= maps[-1][1].shape[2:].numel()):
        return POOLED
    found = [name for name, out in order if (_is_map(out) or _is_tokens(out)) and not _is_attention(network, name)]
    if not found:
        raise UserError("its last feature map is not found; name a module whose output is one (features: MODULE)")
    return found[-1]


def _is_map(value: Any) -> bool:
    """[B, c, h, h] or [B, h, h, c], with positions."""
    if not isinstance(value, Tensor) or value.dim() != 4:
        return False
    _, first, height, width = value.shape
    return (height == width > 1) or (first == height > 1)


def _is_tokens(value: Any) -> bool:
    if not isinstance(value, Tensor) or value.dim() != 3:
        return False
    return any(math.isqrt(n := value.shape[1] - prefix) ** 2 == n > 0 for prefix in (0, 1, 2))


def _is_attention(network: nn.Module, name: str) -> bool:
    """What is inside an attention is no feature map, however square it is."""
    return any("attn" in part.lower() or "attention" in part.lower() for part in name.split("."))


def _logits(output: Any) -> Any:
    """Some networks give more than logits."""
    if isinstance(output, Output):
        return output.logits
    return output[0] if isinstance(output, (tuple, list)) and output else output


def _check_logits(logits: Any, images: Tensor) -> None:
    if not isinstance(logits, Tensor) or logits.dim() != 2 or len(logits) != len(images):
        raise UserError("it does not give logits, a tensor [images, classes]")


def _check_path(network: nn.Module, path: str) -> None:
    with suppress(AttributeError):
        if path and network.get_submodule(path) is not None:
            return
    names = [name for name, _ in network.named_modules() if name]
    likely = nearest(path, names)
    shown = f"did you mean '{likely}'?" if likely else f"its own are {', '.join(name for name in names if '.' not in name)}"
    raise UserError(f"features: there is no module '{one_line(path, 80)}' in it; {one_line(shown, 300)}")


@torch.no_grad()
def _take_up(module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """The network's names stand for those that the module tree has. `rest` ends with the list of what is wrong."""
    assert isinstance(module, Tapped)
    given, own = state.pop(prefix + AFFINE, None), module.affine
    channels = module.example[0] if module.example is not None else None
    if given is None:
        module.affine = None
    elif given.shape != (2, channels, 1, 1):
        rest[-1].append(f"{AFFINE} is {tuple(given.shape)}, not {(2, channels, 1, 1)}")
    elif own is None:
        module.affine = given.detach().to(next(module.parameters()), copy=True)
    else:
        own.copy_(given)
    for name in [name for name in state if name.startswith(prefix)]:
        state[f"{prefix}network.{name.removeprefix(prefix)}"] = state.pop(name)


def renormalises(model: Classifier) -> bool:
    """Whether images get an affine step before the network."""
    return isinstance(model, Tapped) and model.affine is not None


def hold_affine(model: Classifier) -> None:
    """Makes room for such a step's numbers, which weights that are taken up bring; till then it changes nothing."""
    assert isinstance(model, Tapped)
    assert model.example is not None
    channels = model.example[0]
    model.renormalise([1.0] * channels, [0.0] * channels)


@torch.no_grad()
def takes_bfloat16(model: Classifier) -> bool:
    """Whether a network's convolutions may be computed in bfloat16: always true of the catalogue's own, tried on others."""
    if not isinstance(model, Tapped) or model.example is None:
        return True
    images = next(model.parameters()).new_zeros((2, *model.example))
    was_training = model.training
    try:
        with Arithmetic(bf16=True):
            output = model.eval()(images)
        return bool(output.logits.isfinite().all())
    except (RuntimeError, TypeError):
        return False
    finally:
        model.train(was_training)
