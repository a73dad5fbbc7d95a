"""Architectures by name, all with one interface: an image batch in, logits and the last feature map out."""

from engine.models.build import build_model
from engine.models.interface import Classifier, Output, paired

__all__ = ["Classifier", "Output", "build_model", "paired"]
