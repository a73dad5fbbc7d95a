"""Every method trains a student of every family, with teachers of other families: alignment, weights, meta step."""

from __future__ import annotations

import pytest
import torch
from support.nets import CLASSES

from engine.catalog import METHODS
from engine.data import Batch
from engine.errors import UserError
from engine.methods import Plan
from engine.methods.mmkd import Mmkd
from engine.models import build_model
from engine.models.panel import TeacherPanel
from engine.preset import METHOD
from engine.stepping import Stepper

STUDENTS = (
    "vgg8",
    "resnet8",
    "wrn_16_1",
    "mobilenetv2",
    "shufflenetv1",
    "shufflenetv2_0_5",
    "torchvision:mobilenet_v3_small",
    "timm:vit_tiny_patch16_224",
)
TEACHERS = ("resnet8x4", "timm:convnext_atto", "shufflenetv2_0_5")
BATCH, SIZE = 4, 32


def part_of(name: str) -> object:
    settings = {"meta": {"buffer_size": BATCH, "every": 1}} if name == "mmkd" else {}
    return METHOD.validate_python({"name": name, **settings})


@pytest.fixture(scope="module")
def teachers() -> list[torch.nn.Module]:
    return [build_model(name, 3, CLASSES, seed, size=SIZE) for seed, name in enumerate(TEACHERS)]


def train(method: str, student: str, teachers: list, steps: int) -> None:
    facts = METHODS[method]
    panel = TeacherPanel(teachers[: facts.most_teachers or (3 if facts.least_teachers else 0)])
    plan = Plan(part_of(method), student, 3, CLASSES, BATCH, tuple(panel.channels), size=SIZE)
    built = plan.build(0, torch.device("cpu"), [teacher.classify for teacher in panel.teachers])
    built.learner.train()
    before = [p.detach().clone() for p in built.learner.parameters()]
    nets = [w.detach().clone() for w in built.weights] if isinstance(built, Mmkd) else []
    stepper = Stepper(built, torch.optim.SGD(built.learner.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4, nesterov=True))
    generator = torch.Generator().manual_seed(0)
    metas = 0
    for number in range(steps):
        images = torch.randn(BATCH, 3, SIZE, SIZE, generator=generator)
        batch = Batch(images, torch.randint(CLASSES, (BATCH,), generator=generator))
        step, meta = stepper(batch, panel.of(batch), number)
        assert step.loss.isfinite()
        metas += meta is not None
    moved = [not torch.equal(a, b) for a, b in zip(before, built.learner.parameters(), strict=True)]
    assert sum(moved) > 0.9 * len(moved)
    if isinstance(built, Mmkd):
        assert metas == steps
        assert all(w.isfinite().all() for w in built.weights)
        assert any(not torch.equal(a, b) for a, b in zip(nets, built.weights, strict=True))


# Every family with the method that differentiates twice; one with the others. All with all: below.
PAIRS = [(m, s) for m in METHODS for s in STUDENTS if m == "mmkd" or s == "resnet8"]


@pytest.mark.parametrize(("method", "student"), PAIRS)
def test_a_few_steps(method: str, student: str, teachers: list) -> None:
    train(method, student, teachers, 1 if method == "mmkd" else 2)


@pytest.mark.slow
@pytest.mark.parametrize("student", [*STUDENTS, "resnet18_cifar", "torchvision:swin_t", "torchvision:efficientnet_b0"])
@pytest.mark.parametrize("method", METHODS)
def test_twenty_steps(method: str, student: str, teachers: list) -> None:
    train(method, student, teachers, 20)


@pytest.mark.parametrize("form", ["pointwise", "bottleneck"])
def test_every_pair_of_families_is_aligned(form: str) -> None:
    """The student's map, regressed, has the teacher's channels and the smaller of the two maps' sizes."""
    from engine.models.regressor import Learner

    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    models = [build_model(name, 3, CLASSES, size=SIZE).eval() for name in STUDENTS]
    with torch.no_grad():
        maps = [model(images).features for model in models]
        for student in models:
            learner = Learner(student, [m.shape[1] for m in maps], form).eval()
            output = learner(images, [(m.shape[2], m.shape[3]) for m in maps])
            for theirs, ours in zip(maps, output.regressed, strict=True):
                smaller = min(theirs.shape[2], output.features.shape[2])
                assert ours.shape == (2, theirs.shape[1], smaller, smaller)


@pytest.mark.parametrize("name", [*STUDENTS[:-1], "torchvision:resnet18", "timm:convnext_atto", "timm:resnet18"])
def test_a_feature_map_is_classified_as_the_network_itself_does(name: str) -> None:
    images = torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    model = build_model(name, 3, CLASSES, size=SIZE).eval()
    if name == "torchvision:mobilenet_v3_small":  # two layers behind the pooling
        with pytest.raises(UserError, match="camkd"):
            model.classify(model(images).features)
        return
    with torch.no_grad():
        logits, features = model(images)
        torch.testing.assert_close(model.classify(features), logits, rtol=1e-4, atol=1e-5)


def test_a_network_that_decides_by_its_class_token_cannot_be_asked() -> None:
    model = build_model("timm:vit_tiny_patch16_224", 3, CLASSES, size=SIZE)
    with pytest.raises(UserError, match="choose another method, or another teacher"):
        model.classify(torch.zeros(2, model.feature_channels, 2, 2))


def test_a_method_that_asks_the_teachers_heads_says_so_where_it_is_given_none() -> None:
    plan = Plan(part_of("camkd"), "resnet8", 3, CLASSES, BATCH, (64, 64), size=SIZE)
    with pytest.raises(UserError, match=r"^camkd asks the teachers' heads: pass heads=panel\.classifiers\(\)$"):
        plan.build(0, torch.device("cpu"))
