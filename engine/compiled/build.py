"""The process that compiles: `python -m engine.compiled.build FOLDER` for the request that lies there.

It steps aside for everything else on the machine, and ends with the process that asked for it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

NICENESS = 10
REQUEST = "request.json"


def main(folder: Path) -> None:
    """Compiles what is not there yet: a file PART.bin for each part of the request."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a rank after the first ignores it, and so would what it starts
    os.nice(NICENESS)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    # Imported late: the thread above is to watch over the import of torch, too.
    import torch

    from engine.compiled.flat import compile_flat, save
    from engine.compiled.request import request_of
    from engine.control_group import usable_cores
    from engine.device import prepare

    torch.set_num_threads(1)
    request = request_of((folder / REQUEST).read_text())
    prepare(torch.device(request.device))
    workers = max(1, usable_cores() // 4)
    for part in request.parts:
        target = folder / f"{part}.bin"
        if not target.exists():
            began = time.monotonic()
            save(*compile_flat(request.function(part), request.example(), request.threads, workers), target)
            sys.stdout.write(f"{part}: {time.monotonic() - began:.0f} s\n")
            sys.stdout.flush()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
