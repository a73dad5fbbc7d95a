"""Networks of torchvision, timm and a user's own code: found, fitted to the data, with a feature map to learn through."""

from __future__ import annotations

import pytest
import torch
import torchvision
from support.nets import CLASSES
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from engine.architecture_facts import TORCHVISION
from engine.errors import UserError
from engine.kernels import Arithmetic
from engine.models import build_model
from engine.models.build import count_parameters
from engine.models.frozen import folded
from engine.models.panel import TeacherPanel
from engine.models.tapped import tapped
from engine.teachers.foreign import sketch
from engine.teachers.weights import pack, unpack

LIGHT = (
    "torchvision:mobilenet_v3_small",  # squeeze and excitation, hard swish
    "torchvision:squeezenet1_1",  # a convolution for a head
    "timm:vit_tiny_patch16_224",
    "timm:mobilenetv3_small_050",  # BatchNorm with an activation in it
    "timm:convnext_atto",  # LayerNorm
)
OWN = ("vgg8", "resnet8", "wrn_16_1", "mobilenetv2", "shufflenetv1", "shufflenetv2_0_5")


def test_torchvisions_names_and_sizes() -> None:
    """The table against torchvision's own list and its documented numbers of parameters."""
    models = torchvision.models
    assert list(TORCHVISION) == models.list_models(module=models)
    auxiliary = {"inception_v3": 27_161_264 - 23_834_568}  # its second head, which is not built
    for name, facts in TORCHVISION.items():
        documented = {weights.meta["num_params"] for weights in models.get_model_weights(name)}
        assert facts.parameters + auxiliary.get(name, 0) in documented, name


@pytest.mark.parametrize("name", ["resnet18", "vgg11_bn", "densenet121", "googlenet", "swin_t", "mnasnet0_5", "regnet_x_400mf"])
def test_the_tables_counts_are_the_built_networks(name: str) -> None:
    model = sketch(lambda: build_model(f"torchvision:{name}", 1, 10, size=32))
    assert count_parameters(model) == TORCHVISION[name].parameters_for(1, 10)


@pytest.mark.parametrize("size", [28, 64])
@pytest.mark.parametrize("name", [*LIGHT, "timm:deit_tiny_distilled_patch16_224"])
def test_logits_and_a_map(name: str, size: int) -> None:
    model = build_model(name, 1, 7, size=size).eval()
    with torch.no_grad():
        logits, features = model(torch.randn(2, 1, size, size, generator=torch.Generator().manual_seed(0)))
    assert logits.shape == (2, 7)
    assert features.shape[:2] == (2, model.feature_channels)
    assert features.shape[2] == features.shape[3]
    assert logits.isfinite().all()
    assert features.isfinite().all()


def test_tokens_become_a_map_without_the_class_token() -> None:
    """Position (i, j) of the map is token 1 + i * w + j."""
    model = build_model("timm:vit_tiny_patch16_224", 3, 5, size=64).eval()
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        tokens = model.network.forward_features(images)
        features = model(images).features
    assert tokens.shape == (2, 17, 192)
    assert torch.equal(features[1, :, 2, 3], tokens[1, 1 + 2 * 4 + 3])


def test_the_last_map_is_what_the_pooling_reads() -> None:
    """Linear heads on the pooled map give the logits again: ReLU after DenseNet's last BatchNorm is not forgotten."""
    for name, head in (("densenet121", "classifier"), ("resnet18", "fc")):
        model = build_model(f"torchvision:{name}", 3, 5, size=32).eval()
        with torch.no_grad():
            logits, features = model(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
            assert torch.allclose(model.network.get_submodule(head)(features.mean((2, 3))), logits, atol=1e-5)


def test_names_in_a_state_dict_are_the_librarys() -> None:
    model = build_model("torchvision:resnet18", 3, 1000, seed=1)
    theirs = torchvision.models.resnet18(num_classes=1000)
    theirs.load_state_dict(model.state_dict())
    other = build_model("torchvision:resnet18", 3, 1000, seed=2)
    other.load_state_dict(theirs.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    nested = nn.ModuleDict({"student": other})
    assert "student.layer1.0.conv1.weight" in nested.state_dict()
    nested.load_state_dict(nested.state_dict())


@pytest.mark.parametrize("family", [*dict.fromkeys(facts.family for facts in TORCHVISION.values())])
def test_weights_of_every_family_are_taken_up_again(family: str) -> None:
    """By names and tensors alone, as they come from a file or from a checkpoint of a learner; without numbers, which are many."""
    name = min((fact for fact in TORCHVISION.values() if fact.family == family), key=lambda fact: fact.parameters).name
    model = sketch(lambda: build_model(name, 3, 10, size=32))
    model.load_state_dict(dict(model.state_dict()))
    learner = nn.ModuleDict({"student": model})
    learner.load_state_dict(dict(learner.state_dict()))


def test_an_mnasnet_comes_back_from_a_file() -> None:
    model, other = (build_model("torchvision:mnasnet0_5", 3, 10, seed) for seed in (0, 1))
    other.load_state_dict(unpack(pack(model.state_dict())))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_initial_weights_are_of_seed_and_name() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, again, other = (build_model("timm:vit_tiny_patch16_224", 1, 4, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(one[key], again[key]) for key in one)
    assert not torch.equal(one["blocks.0.attn.qkv.weight"], other["blocks.0.attn.qkv.weight"])


def test_nothing_random_in_a_training_pass() -> None:
    """Dropout would make a resumed run another one."""
    # The last one hands a rate of its own to a function.
    for name in ("torchvision:mobilenet_v3_small", "torchvision:efficientnet_b0", "timm:repghostnet_050"):
        model = build_model(name, 3, 5).train()
        images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            assert torch.equal(model(images).logits, model(images).logits)


@pytest.mark.parametrize("path", ["layer4.1.bn2", "layer4.0.bn1", "layer4"])
def test_a_named_map_is_the_modules_own_whatever_is_done_to_it_later(path: str) -> None:
    """After its last BatchNorm a ResNet adds the skip connection in place, and ReLU changes it once more."""
    model = build_model("torchvision:resnet18", 3, 5, size=32, features=path).eval()
    seen: list[Tensor] = []
    model.network.get_submodule(path).register_forward_hook(lambda module, args, output: seen.append(output.clone()))
    with torch.no_grad():
        features = model(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))).features
    assert torch.equal(features, seen[0])
    assert model.overwritten == (path != "layer4")


def test_a_module_by_its_path() -> None:
    model = build_model("torchvision:resnet18", 3, 5, size=64, features="layer3.1").eval()
    with torch.no_grad():
        features = model(torch.zeros(2, 3, 64, 64)).features
    assert features.shape == (2, 256, 4, 4)
    own = build_model("resnet8", 3, 5, features="layer2")
    assert own(torch.zeros(2, 3, 32, 32)).features.shape == (2, 32, 16, 16)
    assert own.state_dict().keys() == build_model("resnet8", 3, 5).state_dict().keys()


@pytest.mark.parametrize(
    ("name", "features", "message"),
    [
        ("torchvision:resnet81", None, "torchvision has no classifier of that name; did you mean resnet"),
        ("timm:vit_tiny_patch16_223", None, "timm has no network of that name; did you mean timm:vit_tiny_patch16_224"),
        ("timm:resnet18.a1_in1", None, "timm has no weights of that tag; did you mean timm:resnet18.a1_in1k"),
        ("torchvision:resnet18", "layer4.7", r"there is no module 'layer4.7' in it; did you mean 'layer4"),
        ("resnet8", "layr2", r"resnet8: features: there is no module 'layr2' in it; did you mean 'layer2'"),
        ("torchvision:resnet18", "fc", "the output of fc is no feature map"),
    ],
)
def test_what_is_not_there(name: str, features: str | None, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        build_model(name, 3, 5, features=features)
    assert str(caught.value).isprintable()


class Flat(nn.Module):
    """A user's network: pooling by a mean, activation by a function."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(channels, 6, 3, 2, 1), nn.Linear(6, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv(x).relu().mean((2, 3)))


def test_a_users_own_network_is_watched() -> None:
    network = Flat(1, 3)
    model = tapped(network, torch.zeros(2, 1, 8, 8), None, None, None)
    images = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits, features = model(images)
    assert torch.equal(features, network.conv(images).relu())
    assert torch.equal(logits, network(images))


@pytest.mark.parametrize("name", ["timm:vit_tiny_patch16_224", "torchvision:mobilenet_v3_small"])
def test_twice_differentiable_under_functional_call(name: str) -> None:
    model = build_model(name, 1, 3, size=32)
    names, values = zip(*[(k, p.detach().requires_grad_()) for k, p in model.named_parameters()], strict=True)
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with sdpa_kernel(SDPBackend.MATH), Arithmetic(twice=True):  # as in a meta step
        buffers = {k: b.clone() for k, b in model.named_buffers()}
        logits, features = functional_call(model, dict(zip(names, values, strict=True)) | buffers, (images,))
        loss = logits.square().mean() + features.square().mean()
        first = torch.autograd.grad(loss, values, create_graph=True, materialize_grads=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), values, materialize_grads=True)
    assert all(g.isfinite().all() for g in second)
    assert sum(float(g.abs().sum()) for g in second) > 0


def lived(model: nn.Module) -> nn.Module:
    """BatchNorm as after a training."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor, low, high in (
                (module.running_mean, -0.2, 0.2),
                (module.running_var, 0.5, 2),
                (module.bias.data, -0.2, 0.2),
            ):
                tensor.uniform_(low, high, generator=generator)
    return model.eval()


@pytest.mark.parametrize("name", [*OWN, *LIGHT])
def test_folded_teachers_say_the_same(name: str) -> None:
    model = lived(build_model(name, 3, CLASSES, size=32)).double()
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    quick = folded(model, images)
    other = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for ours, theirs in zip(quick(other), model(other), strict=True):
            assert torch.allclose(ours, theirs, rtol=1e-8, atol=1e-10)


def test_a_map_between_a_convolution_and_its_norm_is_not_folded_away() -> None:
    model = lived(build_model("torchvision:resnet18", 3, 5, features="layer4.1.conv2"))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    (found,) = TeacherPanel([model])(images)
    with torch.no_grad():
        assert torch.allclose(found.features, model(images).features, atol=1e-5)


@pytest.mark.parametrize("name", [*OWN, *LIGHT])
def test_teachers_in_bfloat16_are_close_or_in_float32(name: str) -> None:
    model = lived(build_model(name, 3, CLASSES, size=32))
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    told: list[str] = []
    (coarse,) = TeacherPanel([model], bf16=True, tell=lambda level, message: told.append(message))(images)
    with torch.no_grad():
        exact = model(images)
    for ours, theirs in zip(coarse, exact, strict=True):
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.06 * theirs.norm()
    assert told == []


class Stubborn(nn.Module):
    """Refuses everything but float32."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if x.dtype != torch.float32:
            raise RuntimeError("float32 only")
        return self.fc(x.mean((2, 3)))


def test_what_cannot_be_narrowed_is_asked_in_float32_and_that_is_said() -> None:
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    model = tapped(Stubborn(), images, None, None, None).eval()
    told: list[str] = []
    (found,) = TeacherPanel([model], bf16=True, tell=lambda level, message: told.append(message))(images)
    with torch.no_grad():
        assert torch.allclose(found.logits, model(images).logits, atol=1e-6)
    assert told == ["teacher 0 cannot be computed in bfloat16; it is asked in float32"]
