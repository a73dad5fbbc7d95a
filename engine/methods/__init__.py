"""Ways of training a student. Each is one file that says how the teachers' knowledge is weighted."""

from engine.methods.base import Method, Step
from engine.methods.make import make_method

__all__ = ["Method", "Step", "make_method"]
