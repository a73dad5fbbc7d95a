"""What becomes of a run's student: exported for other programs, measured, and asked about pictures.

from engine.shipping import open_file
model = open_file(Path("student.onnx"))
for seen in model.predict([Path("picture.png")]): print(seen.top)
"""

from engine.shipping.opening import open_file, open_run

__all__ = ["open_file", "open_run"]
