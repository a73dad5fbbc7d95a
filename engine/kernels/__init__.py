"""How the networks' arithmetic is done: its precision, and operations whose second derivative is cheap."""

from engine.kernels.arithmetic import Arithmetic

__all__ = ["Arithmetic"]
