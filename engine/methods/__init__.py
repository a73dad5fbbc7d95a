"""Ways of training a student. Each is one file that says how the teachers' knowledge is weighted."""

from engine.methods.base import Method, Step, Teachers
from engine.methods.make import Plan, make_method

__all__ = ["Method", "Plan", "Step", "Teachers", "make_method"]
