"""Running averages that stay on the device until somebody asks, so that training never waits for a number."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from engine.methods.step import MetaStep, Step
from engine.ranks import ALONE, Ranks

_META = ("outer_loss", "hard_accuracy", "logit_gradient", "feature_gradient")


class Meter:
    """Sums over training steps since the last metrics event, and since the epoch began. C classes, K teachers."""

    def __init__(self, classes: int, teachers: int, device: torch.device) -> None:
        self.teachers = teachers

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=torch.float64, device=device)

        # A row is as in `accounted`.
        self.recent, self.epoch = zeros(6 + 4 * teachers), zeros(6 + 4 * teachers)
        self.recent_meta, self.epoch_meta = zeros(1 + len(_META)), zeros(1 + len(_META))
        self.by_class = zeros(classes, 1 + 2 * teachers)
        self._one = zeros(1) + 1
        self.has_logit = self.has_feature = self.has_logit_weights = self.has_feature_weights = False

    @torch.no_grad()
    def add(self, step: Step, labels: Tensor, meta: MetaStep | None) -> None:
        """Takes in a step on labels [B]. One that was left out because it is not finite does not count."""
        self.has_logit, self.has_feature = step.logit is not None, step.feature is not None
        self.has_logit_weights, self.has_feature_weights = step.logit_weights is not None, step.feature_weights is not None
        account = step.account
        assert account is not None, "who takes a step says it"
        torch._foreach_add_([self.recent, self.epoch], [account.row, account.row])
        if account.rows is not None:
            self.by_class.index_add_(0, labels, account.rows)
        if meta is not None:
            values = [meta.outer_loss, meta.hard_accuracy, meta.logit_gradient, meta.feature_gradient]
            row = torch.cat([self._one, torch.stack(values).double()])
            row = torch.where(meta.finite, row, 0)
            torch._foreach_add_([self.recent_meta, self.epoch_meta], [row, row])

    def take_recent(self, ranks: Ranks = ALONE) -> dict[str, Any]:
        """The averages since the last call, over the steps of all ranks, as fields of `metrics`; waits for the device."""
        fields = self._averages(*ranks.total([self.recent, self.recent_meta]))
        self.recent.zero_()
        self.recent_meta.zero_()
        return fields

    def take_epoch(self, ranks: Ranks = ALONE) -> dict[str, Any]:
        """The averages since the epoch began, as fields of `epoch_ended`; begins a new one."""
        epoch, meta, by_class = ranks.total([self.epoch, self.epoch_meta, self.by_class])
        fields = self._averages(epoch, meta)
        if self.has_logit_weights:
            # Of many classes a row each: as many digits as anybody reads.
            means = (by_class[:, 1:] / by_class[:, :1].clamp_min(1)).round(decimals=4).tolist()
            fields["logit_weights_by_class"] = tuple(tuple(row[: self.teachers]) for row in means)
            if self.has_feature_weights:
                fields["feature_weights_by_class"] = tuple(tuple(row[self.teachers :]) for row in means)
        for tensor in (self.epoch, self.epoch_meta, self.by_class):
            tensor.zero_()
        return fields

    def _averages(self, sums: Tensor, meta: Tensor) -> dict[str, Any]:
        count, *values = sums.tolist()
        means = [value / max(count, 1) for value in values]
        fields: dict[str, Any] = dict(zip(("loss", "ce", "logit", "feature", "accuracy"), means[:5], strict=True))
        if not count:  # every step was left out
            fields |= dict.fromkeys(("loss", "ce", "logit", "feature"))
        if not self.has_logit:
            fields["logit"] = None
        if not self.has_feature:
            fields["feature"] = None
        k = self.teachers
        for name, present, start in (("logit", self.has_logit_weights, 5), ("feature", self.has_feature_weights, 5 + 2 * k)):
            if present and count:
                mean, square = means[start : start + k], means[start + k : start + 2 * k]
                fields[f"{name}_weights"] = tuple(mean)
                fields[f"{name}_spread"] = tuple(max(s - m * m, 0.0) ** 0.5 for m, s in zip(mean, square, strict=True))
        meta_count, *meta_values = meta.tolist()
        if meta_count:
            fields |= {name: value / meta_count for name, value in zip(_META, meta_values, strict=True)}
        return fields

    def state(self, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The sums of the epoch in hand, over all ranks."""
        present = [self.has_logit, self.has_feature, self.has_logit_weights, self.has_feature_weights]
        names = ("epoch", "epoch_meta", "by_class")
        sums = dict(zip(names, ranks.total([getattr(self, name) for name in names]), strict=True))
        return sums | {"present": torch.tensor(present)}

    def load_state(self, state: dict[str, Tensor], ranks: Ranks = ALONE) -> None:
        """Takes up what `state` gave; of several ranks, the first one has it all."""
        for name in ("epoch", "epoch_meta", "by_class"):
            getattr(self, name).copy_(state[name] if ranks.first else torch.zeros_like(state[name]))
        present = state["present"].tolist()
        self.has_logit, self.has_feature, self.has_logit_weights, self.has_feature_weights = present
