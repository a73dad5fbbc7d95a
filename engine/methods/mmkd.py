"""MMKD: a meta-weight network, learned by bi-level optimisation, weighs each teacher's logits and features for each sample.

Zhang, Chen & Wang, *Adaptive Multi-Teacher Knowledge Distillation with Meta-Learning*, ICME 2023 (arXiv 2306.06634). The
settings weigh, meta.learning and meta.batches are its ablations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from engine.data import Batch
from engine.kernels import Arithmetic
from engine.kernels.finite import Guard, all_finite
from engine.meta.hard_buffer import HardBuffer
from engine.meta.hypergradient import Hypergradient, hypergradient
from engine.meta.sgd import Sgd, Tensors
from engine.meta.weight_nets import WeightNets
from engine.methods.base import Hard, LearnerOutput, MetaGradient, MetaStep, Method, Step, sizes_of
from engine.methods.losses import distances, divergences
from engine.models import Output, paired
from engine.models.functional import call_with
from engine.models.regressor import Learner
from engine.optimizers import Adam
from engine.preset import MmkdPart
from engine.randomness import permutation


@dataclass(frozen=True, slots=True)
class Matching:
    """How far the student is from each teacher, and how much each counts; B samples, K teachers."""

    logit_weights: Tensor  # a, [B, K]
    feature_weights: Tensor  # b, [B, K]
    divergences: Tensor  # KL, [B, K]
    distances: Tensor  # D, [B, K]

    @property
    def logit(self) -> Tensor:
        """L_logit = mean_i sum_k a_ik KL_ik."""
        return (self.logit_weights * self.divergences).sum(1).mean()

    @property
    def feature(self) -> Tensor:
        """L_feat = mean_i sum_k b_ik D_ik."""
        return (self.feature_weights * self.distances).sum(1).mean()


class Mmkd(Method):
    """L = gamma L_ce + alpha L_logit + beta L_feat; every `meta.every` steps, the weights are learned from the hard buffer.

    `weigh: logits` or `features`: the other side's weights are 1/K. `meta.learning: joint`: there is no meta step, and after each
    training step Adam updates the nets by the gradient of that step's own alpha L_logit + beta L_feat. `meta.batches: random`:
    the buffer takes in every sample, not those alone that the student got wrong.
    """

    own_state = ("buffer.",)

    def __init__(self, settings: MmkdPart, learner: Learner, nets: WeightNets, seed: int) -> None:
        super().__init__(learner)
        self.settings = settings
        self.nets = nets
        self.seed = seed
        self.buffer = HardBuffer(settings.meta.buffer_size)
        self.adam = Adam(nets.parameters(), lr=settings.meta.lr, weight_decay=settings.meta.weight_decay)
        self._guard = Guard(self.weights[0].device.type != "cpu")

    def step(self, batch: Batch, teachers: Sequence[Output]) -> Step:
        """One pass of the student; the weights are used, not learned."""
        output: LearnerOutput = self.learner(batch.images, sizes_of(teachers))
        with torch.set_grad_enabled(self.joint):
            weights = self.weigh(output, teachers)
        matching = self.match(output, teachers, weights)
        ce = F.cross_entropy(output.logits, batch.labels)
        return Step(
            loss=self.settings.gamma * ce + self.matching_loss(matching),
            logits=output.logits,
            ce=ce,
            logit=matching.logit,
            feature=matching.feature,
            logit_weights=matching.logit_weights.detach(),
            feature_weights=matching.feature_weights.detach(),
        )

    @property
    def joint(self) -> bool:
        """Whether training steps teach the weights."""
        return self.settings.meta.learning == "joint"

    @property
    def eager_because(self) -> str:  # type: ignore[override]
        """A compiled training step differentiates with respect to the learner alone."""
        return "it teaches the weight networks, too" if self.joint else ""

    @property
    def weighs_samples(self) -> tuple[str, ...]:  # type: ignore[override]
        """What its nets say; equal weights are none of theirs."""
        return {"logits": ("logit",), "features": ("feature",)}.get(self.settings.weigh, ("logit", "feature"))

    def logit_weights_of(self, student: Tensor, teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        """See Method; a, which no label decides."""
        return self.nets.logit_weights(teachers, student)

    def feature_weights_of(self, output: LearnerOutput, teachers: Sequence[Output], labels: Tensor) -> Tensor:
        """See Method; b, which is each sample's within this batch."""
        return self.nets.feature_weights([t.features for t in teachers], output.features)

    @property
    def weights(self) -> list[nn.Parameter]:
        """What the meta steps learn: the tensors of the two nets."""
        return list(self.nets.parameters())

    def after_step(self, batch: Batch, teachers: Sequence[Output], step: Step, number: int) -> Hard | None:
        """Offers the batch to the hard buffer and, every `meta.every` steps once that is full, draws one from it."""
        account = step.account
        assert account is not None, "who takes a step says it"
        if self.joint:
            gradients = [weight.grad for weight in self.weights if weight.grad is not None]
            self.ranks.average(gradients)
            self._adapt(all_finite(gradients) & account.counted)
            return None
        wrong = torch.ones_like(account.wrong) if self.settings.meta.batches == "random" else account.wrong
        order = permutation(self.buffer.size, self.seed, "buffer places", number)
        outputs = [tensor for teacher in teachers for tensor in teacher]
        self.buffer.offer([batch.images, batch.labels, *outputs], wrong, order, account.counted)
        if (number + 1) % self.settings.meta.every or not self.buffer.full:
            return None
        drawn = permutation(self.buffer.size, self.seed, "buffer draw", number)[: len(batch.labels)]
        images, labels, *rest = self.buffer.draw(drawn)
        return Hard(Batch(images, labels), paired(rest))

    def weigh(self, output: LearnerOutput, teachers: Sequence[Output]) -> tuple[Tensor, Tensor]:
        """a and b, [B, K] each."""
        equal = output.logits.new_full((len(output.logits), len(teachers)), 1 / len(teachers))
        asked = self.settings.weigh
        return (
            equal if asked == "features" else self.nets.logit_weights([t.logits for t in teachers], output.logits),
            equal if asked == "logits" else self.nets.feature_weights([t.features for t in teachers], output.features),
        )

    def match(self, output: LearnerOutput, teachers: Sequence[Output], weights: tuple[Tensor, Tensor]) -> Matching:
        """The losses between the student's pass and the teachers' outputs, under `weights`."""
        return Matching(
            *weights,
            divergences([t.logits for t in teachers], output.logits, self.settings.temperature),
            distances([t.features for t in teachers], output.regressed),
        )

    def matching_loss(self, matching: Matching) -> Tensor:
        """alpha L_logit + beta L_feat, a scalar."""
        return self.settings.alpha * matching.logit + self.settings.beta * matching.feature

    def meta_gradient(self, batch: Batch, teachers: Sequence[Output], momenta: Tensors, sgd: Sgd) -> MetaGradient:
        """The hyper-gradient on a hard batch, and its norms, a number for each net."""
        result, _, logits = self.inner_steps(batch, teachers, momenta, sgd)
        half = len(list(self.nets.logit.parameters()))
        norms = [torch.stack(torch._foreach_norm(part)).norm() for part in (result.gradient[:half], result.gradient[half:])]
        accuracy = (logits.argmax(1) == batch.labels).float().mean()
        return MetaGradient(result.gradient, MetaStep(result.outer_loss, accuracy, *norms))

    def inner_steps(
        self, batch: Batch, teachers: Sequence[Output], momenta: Tensors, sgd: Sgd
    ) -> tuple[Hypergradient, dict[str, Tensor], Tensor]:
        """The hyper-gradient, the buffers (BatchNorm statistics) after the inner steps, the logits before them.

        Everything of the learner is read and nothing is changed: each pass has its own copy of the buffers.
        """
        names, parameters = zip(*self.learner.named_parameters(), strict=True)
        buffers = {name: buffer.clone() for name, buffer in self.learner.named_buffers()}
        sizes = sizes_of(teachers)
        passes: list[tuple[Tensor, dict[str, Tensor]]] = []

        def forward(values: Tensors) -> LearnerOutput:
            before = passes[-1][1] if passes else buffers
            own = {name: buffer.clone() for name, buffer in before.items()}
            with Arithmetic(twice=True):
                output: LearnerOutput = call_with(
                    self.learner, {**dict(zip(names, values, strict=True)), **own}, (batch.images, sizes)
                )
            passes.append((output.logits.detach(), own))
            return output

        def matching(values: Tensors) -> Tensor:
            output = forward(values)
            return self.matching_loss(self.match(output, teachers, self.weigh(output, teachers)))

        def classification(values: Tensors) -> Tensor:
            return F.cross_entropy(forward(values).logits, batch.labels)

        steps = [*[matching] * self.settings.meta.match_steps, classification]
        result = hypergradient(steps, classification, parameters, momenta, self.weights, sgd, self.ranks.mean)
        return result, passes[-2][1], passes[0][0]

    def learn(self, found: MetaGradient) -> None:
        """Updates the weight networks by Adam."""
        for weight, gradient in zip(self.weights, found.gradient, strict=True):
            weight.grad = gradient
        self._adapt(found.told.finite)

    def _adapt(self, finite: Tensor) -> None:
        """A step of Adam; where the gradient is not finite, only its count of steps moves on."""
        self._guard.keep(self._learned())
        self.adam.step()
        self.adam.zero_grad()
        self._guard.settle(self._learned(), finite)

    def _learned(self) -> list[Tensor]:
        """The weights and Adam's moments, zeros before its first step."""
        states = [self.adam.state.get(weight, {}) for weight in self.weights]
        moments = [
            state[name] if name in state else torch.zeros_like(weight)
            for weight, state in zip(self.weights, states, strict=True)
            for name in ("exp_avg", "exp_avg_sq")
        ]
        return [*self.weights, *moments]

    def withdraw(self) -> None:
        """The step in hand broke off: its batch will be offered again."""
        self.buffer.withdraw()

    def state(self) -> dict[str, Tensor]:
        """The weight networks, Adam's moments and the hard buffer."""
        state = {f"nets.{name}": value for name, value in self.nets.state_dict().items()}
        for number, weight in enumerate(self.weights):
            state |= {f"adam.{number}.{name}": value for name, value in self.adam.state.get(weight, {}).items()}
        state |= {f"buffer.{number}": rows for number, rows in enumerate(self.buffer.rows)}
        return state | {"buffer.count": torch.tensor(self.buffer.count)}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Takes up what `state` gave. ValueError where that is of another training."""
        self.nets.load_state_dict({k.removeprefix("nets."): v for k, v in state.items() if k.startswith("nets.")})
        device = self.weights[0].device
        for number, weight in enumerate(self.weights):
            prefix = f"adam.{number}."
            moments = {k.removeprefix(prefix): v.clone() for k, v in state.items() if k.startswith(prefix)}
            if any(moment.shape != weight.shape for name, moment in moments.items() if name != "step"):
                raise ValueError("Adam's moments are not of these weight networks")
            if moments:
                self.adam.state[weight] = {k: v if k == "step" else v.to(device) for k, v in moments.items()}
        count = sum(k.startswith("buffer.") and k != "buffer.count" for k in state)
        rows = [state[f"buffer.{number}"] for number in range(count)]
        self.buffer.load_state(rows, int(state["buffer.count"]), device)
