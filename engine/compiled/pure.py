"""A method's steps and the teachers' pass as functions of tensors alone, which is what a compiler takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import torch
from torch import Tensor, nn

from engine.data import Batch
from engine.kernels import Arithmetic
from engine.kernels.finite import finite_parts
from engine.meta.sgd import Sgd, Tensors
from engine.methods.base import MetaGradient, Method, Step
from engine.methods.step import Account, accounted
from engine.models import Classifier, Output, paired
from engine.models.functional import call_with
from engine.models.panel import TeacherPanel

FIELDS = tuple(field.name for field in fields(Step) if field.name != "account")


def tensors_of(step: Step) -> dict[str, Tensor]:
    """A step and its account, by name; what is not there is left out."""
    assert step.account is not None, "who takes a step says it"
    told = {name: getattr(step, name) for name in FIELDS} | step.account._asdict()
    return {name: value.detach() for name, value in told.items() if value is not None}


def step_of(told: Mapping[str, Tensor]) -> Step:
    """What `tensors_of` took apart."""
    account = Account(**{name: told[name] for name in Account._fields if name in told})
    return Step(**{name: told[name] for name in FIELDS if name in told}, account=account)


class Pure:
    """`method` with its tensors taken out. Parameters, buffers and others come and go as lists, in the module's own order.

    `sgd` gives momentum, weight decay and form; the learning rate is an argument, so that one compiled step serves a schedule.
    """

    def __init__(self, method: Method, sgd: Sgd) -> None:
        self.method, self.sgd = method, sgd
        self.parameter_names = [f"learner.{name}" for name, _ in method.learner.named_parameters()]
        self.buffer_names = [f"learner.{name}" for name, _ in method.learner.named_buffers()]
        self.weight_names = [name for name, _ in method.named_parameters() if not name.startswith("learner.")]
        names = (self.parameter_names, self.buffer_names, self.weight_names)
        self._slots = [[_slot(method, name) for name in part] for part in names]

    @property
    def parts(self) -> tuple[str, ...]:
        """The kinds of step that there are."""
        return ("train", "meta") if self.weight_names else ("train",)

    def tensors(self) -> tuple[Tensors, Tensors, Tensors]:
        """The learner's parameters, its buffers, and what the meta steps learn, as they are now."""
        return [tensors[name].detach() for tensors, name in self._slots[0]], [b.detach() for b in self.buffers()], self.weights()

    def buffers(self) -> Tensors:
        """The learner's own, which can be given other values."""
        return [tensors[name] for tensors, name in self._slots[1]]

    def weights(self) -> Tensors:
        """What the meta steps learn, as it is now."""
        return [tensors[name].detach() for tensors, name in self._slots[2]]

    @torch.enable_grad()
    def train(
        self,
        parameters: Tensors,
        momenta: Tensors,
        buffers: Tensors,
        weights: Tensors,
        lr: Tensor,
        images: Tensor,
        labels: Tensor,
        *teachers: Tensor,
    ) -> tuple[Tensors, Tensors, Tensors, dict[str, Tensor]]:
        """A training step: new parameters, momenta and buffers, and what `Step` tells; the old ones where it is not finite."""
        leaves = [p.detach().requires_grad_() for p in parameters]
        own = [b.clone() for b in buffers]
        with Arithmetic(twice=True):
            step = self._call("step", leaves, own, weights, Batch(images, labels), paired(teachers))
        gradients = torch.autograd.grad(step.loss, leaves, materialize_grads=True)
        with torch.no_grad():
            after, moved = replace(self.sgd, lr=lr).step(parameters, momenta, gradients)
            finite = finite_parts(step.loss, gradients, own)
            ok = finite.all()
            pairs = zip((*after, *moved, *own), (*parameters, *momenta, *buffers), strict=True)
            chosen = [torch.where(ok, new, old) for new, old in pairs]
            count = len(parameters)
            after, moved, own = chosen[:count], chosen[count : 2 * count], chosen[2 * count :]
        return after, moved, own, tensors_of(accounted(step, finite, labels, len(teachers) // 2))

    @torch.enable_grad()
    def meta(
        self,
        parameters: Tensors,
        momenta: Tensors,
        buffers: Tensors,
        weights: Tensors,
        lr: Tensor,
        images: Tensor,
        labels: Tensor,
        *teachers: Tensor,
    ) -> tuple[Tensors, list[Tensor]]:
        """A meta step's hyper-gradient, and what `MetaStep` tells, in its order."""
        learned = [w.detach().requires_grad_() for w in weights]
        sgd = replace(self.sgd, lr=lr)
        found: MetaGradient = self._call(
            "meta_gradient", parameters, buffers, learned, Batch(images, labels), paired(teachers), momenta, sgd
        )
        told = found.told
        return found.gradient, [told.outer_loss, told.hard_accuracy, told.logit_gradient, told.feature_gradient]

    def _call(self, part: str, parameters: Tensors, buffers: Tensors, weights: Tensors, *args: Any) -> Any:
        names = (*self.parameter_names, *self.buffer_names, *self.weight_names)
        tensors = dict(zip(names, (*parameters, *buffers, *weights), strict=True))
        return call_with(self.method, tensors, (part, *args))


class PurePanel:
    """Teachers, made quick to ask, with their tensors taken out: a list for each, in the module's own order."""

    def __init__(self, panel: TeacherPanel, images: Tensor) -> None:
        """`images` [B, channels, H, W] are any."""
        self.models, self.narrow = panel.quick(images), panel.narrow
        self.names = [list(_tensors_of(model)) for model in self.models]

    def tensors(self) -> list[Tensors]:
        """As they are now."""
        return [list(_tensors_of(model).values()) for model in self.models]

    @torch.no_grad()
    def teachers(self, tensors: Sequence[Tensors], images: Tensor) -> list[Tensor]:
        """[B, channels, H, W] -> logits, features, logits, features, ..., float32 where it was narrowed."""
        said: list[Tensor] = []
        for model, narrow, names, own in zip(self.models, self.narrow, self.names, tensors, strict=True):
            with Arithmetic(bf16=narrow):
                output: Output = call_with(model, dict(zip(names, own, strict=True)), (images,))
            said += [part.float() if narrow else part for part in output]
        return said


def _slot(module: nn.Module, name: str) -> tuple[dict[str, Any], str]:
    """Where a parameter or a buffer is kept: to walk through all modules for it takes longer than a recorded step."""
    owner, _, own = name.rpartition(".")
    found = module.get_submodule(owner)
    return (found._parameters if own in found._parameters else found._buffers), own


def _tensors_of(model: Classifier) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in model.named_parameters()} | dict(model.named_buffers())
