"""What this machine has for mmkd, what is wrong with it, and how that is mended."""

from engine.doctor.examination import examine
from engine.doctor.finding import Finding

__all__ = ["Finding", "examine"]
