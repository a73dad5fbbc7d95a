"""Networks with the weights that their library publishes: all of them arrive, whatever names its files have, and the network
sees pixels as those weights saw them, wherever it goes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import safetensors.torch
import timm
import torch
import torchvision
from support.classroom import PHASE, PRESET, RECIPE, classroom, few_digits
from torch import Tensor, nn

from engine.compiled.pure import Pure, PurePanel
from engine.compiled.request import StepsRequest, TeachersRequest, request_of
from engine.dataset_facts import IMAGENET, Normalisation
from engine.errors import UserError
from engine.measure import logits_of
from engine.meta.sgd import Sgd
from engine.methods import Plan
from engine.models import Classifier, Output, build_model
from engine.models.library import published_normalisation
from engine.models.panel import TeacherPanel
from engine.models.tapped import AFFINE
from engine.models.turns import TurnPanel
from engine.preset import CePart, EvaluatePart, TeacherPart
from engine.shipping.runners import Logits
from engine.teachers.foreign import fit, load_fitting
from engine.teachers.store import TeacherStore

State = dict[str, Tensor]
Publish = Callable[[str, State], Path]


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Publish:
    """Puts a file where torchvision looks before it downloads."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def put(name: str, state: State) -> Path:
        path = tmp_path / "hub" / "checkpoints" / Path(torchvision.models.get_model_weights(name).DEFAULT.url).name
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path)
        return path

    return put


def images(side: int = 32) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def numbered(network: nn.Module) -> State:
    """A number of its own for every tensor, which take up no memory."""
    return {name: torch.full((), float(k)).expand(v.shape) for k, (name, v) in enumerate(network.state_dict().items())}


def densenets(state: State) -> State:
    """The names of its published file."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", name): value for name, value in state.items()}


def vits(state: State) -> State:
    """The names of its published file."""
    return {name.replace("mlp.0.", "mlp.linear_1.").replace("mlp.3.", "mlp.linear_2."): v for name, v in state.items()}


def test_a_densenet_says_what_torchvisions_own_says(publish: Publish) -> None:
    state = torchvision.models.densenet121().state_dict()
    path = publish("densenet121", densenets({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}))
    theirs = torchvision.models.densenet121(weights="DEFAULT").eval()
    for model in (
        build_model("torchvision:densenet121", 3, 1000, pretrained=True),
        load_fitting(path, "torchvision:densenet121", lambda: build_model("torchvision:densenet121", 3, 1000)),
    ):
        with torch.no_grad():
            assert torch.equal(model.eval()(images()).logits, theirs(images()))
    fitted = build_model("torchvision:densenet121", 3, 5, pretrained=True).eval()
    with torch.no_grad():
        assert torch.equal(fitted(images()).features, theirs.features(images()).relu())


def test_a_vit_is_filled_for_images_of_another_size(publish: Publish) -> None:
    with torch.device("meta"):
        network = torchvision.models.vit_b_32()
    state = numbered(network)
    publish("vit_b_32", vits(state))
    found = build_model("torchvision:vit_b_32", 3, 5, size=64, pretrained=True).state_dict()
    for name, value in state.items():
        if not name.startswith("heads."):
            assert torch.allclose(found[name], value.flatten()[:1]), name
    given = fit(network.state_dict(), vits(state))  # as a checkpoint
    assert given.whole
    assert all(given.tensors[name] is value for name, value in state.items())


def test_weights_that_do_not_fill_the_network_are_refused(publish: Publish) -> None:
    state = numbered(torchvision.models.squeezenet1_1())
    publish("squeezenet1_1", {name: value for name, value in state.items() if name != "features.3.squeeze.bias"})
    with pytest.raises(UserError, match=r"fill not all of it: 1 tensors are missing or of another shape \(features.3.squeeze.bi"):
        build_model("torchvision:squeezenet1_1", 3, 5, pretrained=True)


def normal(pixels: Tensor, by: Normalisation) -> Tensor:
    """[B, 3, H, W] of 0 to 1."""
    mean, std = (torch.tensor(values)[:, None, None] for values in by)
    return (pixels - mean) / std


HALVES = Normalisation((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("name", "by"),
    [
        ("torchvision:resnet18", IMAGENET),
        ("torchvision:googlenet", HALVES),
        ("torchvision:efficientnet_v2_l", HALVES),
        ("timm:vit_tiny_patch16_224", HALVES),
        ("timm:resnet18", IMAGENET),
        ("resnet8", None),
    ],
)
def test_what_published_weights_are_of(name: str, by: Normalisation | None) -> None:
    assert published_normalisation(name) == by


def test_a_googlenet_sees_what_torchvisions_own_sees(publish: Publish) -> None:
    publish("googlenet", torchvision.models.googlenet(init_weights=False).state_dict())
    theirs = torchvision.models.googlenet(weights="DEFAULT").eval()
    ours = build_model("torchvision:googlenet", 3, 1000, size=64, pretrained=True).eval()
    seen: list[Tensor] = []
    for network in (theirs, ours.network):
        network.conv1.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        torch.testing.assert_close(ours(images(64)).logits, theirs(images(64)))
    torch.testing.assert_close(*seen)


@pytest.mark.parametrize("here", [IMAGENET, Normalisation((0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), HALVES])
def test_a_vit_of_timm_sees_its_own_normalisation(here: Normalisation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = timm.create_model("vit_tiny_patch16_224", num_classes=5, img_size=32).eval()
    config = timm.get_pretrained_cfg("vit_tiny_patch16_224")
    state = timm.create_model("vit_tiny_patch16_224").state_dict()
    cached = tmp_path / f"models--{config.hf_hub_id.replace('/', '--')}"
    for name, content in (("refs/main", b"0"), ("snapshots/0/model.safetensors", safetensors.torch.save(state))):
        (cached / name).parent.mkdir(parents=True)
        (cached / name).write_bytes(content)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    ours = build_model("timm:vit_tiny_patch16_224", 3, 5, size=32, pretrained=True, normalised=here).eval()
    assert torch.equal(ours.state_dict()["blocks.7.attn.qkv.weight"], state["blocks.7.attn.qkv.weight"])
    theirs.load_state_dict({name: value for name, value in ours.state_dict().items() if name != AFFINE})
    pixels = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(ours(normal(pixels, here)).logits, theirs(normal(pixels, HALVES)), rtol=1e-4, atol=1e-5)
    assert (AFFINE in ours.state_dict()) == (here != HALVES)


def said(model: Classifier) -> Output:
    """Of the first digits."""
    with torch.no_grad():
        output: Output = model.eval()(next(few_digits().test.in_order(8)).images)
    return output


@pytest.fixture
def digits_network(publish: Publish) -> Classifier:
    """Of ImageNet's weights, for grey images by the digits' own normalisation."""
    publish("squeezenet1_1", torchvision.models.squeezenet1_1().state_dict())
    here = few_digits().normalised
    return build_model("torchvision:squeezenet1_1", 1, 10, size=8, pretrained=True, normalised=here)


def plain() -> Classifier:
    return build_model("torchvision:squeezenet1_1", 1, 10, size=8)


def test_grey_images_are_brought_to_the_mean_of_the_colours(digits_network: Classifier) -> None:
    batch, here = next(few_digits().test.in_order(8)).images, few_digits().normalised
    pixels = batch * here.std[0] + here.mean[0]
    mean, std = (sum(values) / 3 for values in IMAGENET)
    other = plain()
    other.load_state_dict({name: value for name, value in digits_network.state_dict().items() if name != AFFINE})
    with torch.no_grad():
        torch.testing.assert_close(said(digits_network).logits, other.eval()((pixels - mean) / std).logits)


def test_it_goes_with_the_weights(digits_network: Classifier, tmp_path: Path) -> None:
    expected = said(digits_network)
    state = digits_network.state_dict()
    taken = plain()
    taken.load_state_dict(dict(state))
    learner, other = (nn.ModuleDict({"student": model}) for model in (digits_network, plain()))
    other.load_state_dict(dict(learner.state_dict()))
    safetensors.torch.save_file(state, tmp_path / "t.safetensors")
    read = load_fitting(tmp_path / "t.safetensors", "torchvision:squeezenet1_1", plain)
    for model in (taken, other["student"], read):
        assert torch.equal(said(model).logits, expected.logits)
    with torch.no_grad():
        batch = next(few_digits().test.in_order(8)).images
        assert torch.equal(Logits(digits_network)(batch), expected.logits)
    taken.load_state_dict(plain().state_dict())
    assert torch.equal(said(taken).logits, said(plain()).logits)  # whose images get nothing first
    state[AFFINE] = torch.ones(2, 3, 1, 1)
    safetensors.torch.save_file(state, tmp_path / "t.safetensors")
    with pytest.raises(UserError, match=r"shapes that differ \(mmkd.affine is \(2, 3, 1, 1\), not \(2, 1, 1, 1\)\)"):
        load_fitting(tmp_path / "t.safetensors", "torchvision:squeezenet1_1", plain)
    with pytest.raises(RuntimeError, match=r"mmkd.affine is"):
        plain().load_state_dict(state)


def test_panels_and_compiled_passes_keep_it(digits_network: Classifier) -> None:
    batch = next(few_digits().test.in_order(8)).images
    expected = said(digits_network)
    panel = TeacherPanel([digits_network])
    asked = TeachersRequest.of(panel, (("torchvision:squeezenet1_1", None),), 10, batch, 1)
    made = request_of(asked.to_json()).function("teachers")  # as another process has it, of other weights
    turned = TurnPanel([digits_network], torch.device("cpu"))
    for logits in (panel(batch)[0].logits, made(PurePanel(panel, batch).tensors(), batch)[0], turned(batch)[0].logits):
        torch.testing.assert_close(logits, expected.logits)


def test_compiled_steps_know_of_it(digits_network: Classifier) -> None:
    plan = Plan(CePart(name="ce"), "torchvision:squeezenet1_1", 1, 10, 8, size=8, renormalised=True)
    method, sgd = plan.build(0, torch.device("cpu")), Sgd(0.1, 0.9, 0.0, False)
    method.learner.student.load_state_dict(digits_network.state_dict())
    ours = Pure(method, sgd)
    asked = request_of(StepsRequest.of(plan, torch.zeros(8, 1, 8, 8), [], sgd).to_json())
    assert isinstance(asked, StepsRequest)
    assert asked.pure.buffer_names == ours.buffer_names == ["learner.student.affine"]
    assert torch.equal(said(method.learner.student).logits, said(digits_network).logits)


def test_a_teacher_trained_from_there_is_found_as_it_was(digits_network: Classifier, tmp_path: Path) -> None:
    part = TeacherPart(arch="torchvision:squeezenet1_1", pretrained=True, train=RECIPE.model_copy(update={"lr": 1e-4}))
    first, second = (classroom(tmp_path / "store").teacher(part, PHASE) for _ in range(2))
    assert (first.source, second.source) == ("trained", "store")
    assert torch.equal(first.logits, second.logits)
    assert AFFINE in second.model.state_dict()
    (entry,) = TeacherStore(tmp_path / "store").entries()
    given = TeacherPart(arch="torchvision:squeezenet1_1", checkpoint=str(entry.path / "weights.safetensors"))
    weak = PRESET.model_copy(update={"evaluate": EvaluatePart(accept_weak_teachers=True)})
    room = replace(classroom(tmp_path / "store"), preset=weak)
    assert torch.equal(room.teacher(given, PHASE).logits, first.logits)
    as_it_is = room.teacher(TeacherPart(arch="torchvision:squeezenet1_1", pretrained=True), PHASE)
    same = build_model("torchvision:squeezenet1_1", 1, 10, size=8, pretrained=True, normalised=few_digits().normalised)
    assert torch.equal(as_it_is.logits, logits_of(same, few_digits().test, 512))
