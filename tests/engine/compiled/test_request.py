"""What a compiled function depends on."""

from __future__ import annotations

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from engine.compiled.request import StepsRequest, TeachersRequest, request_of
from engine.meta.sgd import Sgd
from engine.methods import Plan
from engine.models import build_model
from engine.models.panel import TeacherPanel
from engine.preset import KdPart


def test_it_is_compiled_for_one_of_several_gpus() -> None:
    """Compiled code switches to the GPU that it was made for. This machine need not have two, and PyTorch makes no tensor, be it
    a fake one, on a GPU of a kind that it has and a number that it has not: here it is of a kind that it has no code for.
    """
    with FakeTensorMode():
        images = torch.empty(16, 1, 8, 8, device="mtia:1")
    plan = Plan(KdPart(name="kd"), "resnet8", 1, 10, 16, teacher_channels=(64,))
    steps = StepsRequest.of(plan, images, [(64, 2, 2)], Sgd(0.05, 0.9, 5e-4, True))
    panel = TeacherPanel([build_model("resnet8", 1, 10, 0)])
    teachers = TeachersRequest.of(panel, (("resnet8", None),), 10, images, 1)
    for request in (steps, teachers):
        assert torch.device(request_of(request.to_json()).device) == images.device
