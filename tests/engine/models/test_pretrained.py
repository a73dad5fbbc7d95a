"""Networks with the weights that their library publishes: all of them arrive, whatever names its files have."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torchvision
from torch import Tensor, nn

from engine.errors import UserError
from engine.models import build_model
from engine.teachers.foreign import fit, load_fitting

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
