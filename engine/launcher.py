"""PyTorch's launcher for the processes of one machine that train together: `python -m engine.launcher N RESTARTS COMMAND...`.

torchrun's own meeting points listen on every interface and read pickles from whoever connects; this one is reached from this
machine alone. For several machines, start `torchrun ... -m engine.host RUN_DIR` on each, in a network that you trust.
"""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Sequence

from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.rendezvous import (
    RendezvousHandler,
    RendezvousInfo,
    RendezvousParameters,
    RendezvousStoreInfo,
    rendezvous_handler_registry,
)
from torch.distributed.run import main as torchrun

from engine.control import STOP_SIGNALS

_HERE = "127.0.0.1"
_NAME = "mmkd-loopback"


class Loopback(RendezvousHandler):
    """Where one machine's launcher and its processes meet: a store that listens on the loopback interface."""

    use_agent_store = True  # its processes need no other one

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._stores: list[TCPStore] = []

    def get_backend(self) -> str:
        """Its name."""
        return _NAME

    def next_rendezvous(self) -> RendezvousInfo:
        """One machine is always complete. A new store each time: what processes said that are gone must not be found."""
        listening = socket.create_server((_HERE, 0))
        port = int(listening.getsockname()[1])
        store = TCPStore(
            _HERE, port, is_master=True, wait_for_workers=False, multi_tenant=True, master_listen_fd=listening.detach()
        )
        self._stores.append(store)
        return RendezvousInfo(PrefixStore(self._run_id, store), 0, 1, RendezvousStoreInfo(_HERE, port))

    def is_closed(self) -> bool:
        """Never."""
        return False

    def set_closed(self) -> None:
        """Nobody else could come."""

    def num_nodes_waiting(self) -> int:
        """None: there is no other machine."""
        return 0

    def get_run_id(self) -> str:
        """As the launcher chose it."""
        return self._run_id

    def shutdown(self) -> bool:
        """The store goes with the process."""
        return True


def _loopback(parameters: RendezvousParameters) -> RendezvousHandler:
    return Loopback(parameters.run_id)


def main(arguments: Sequence[str]) -> None:
    """Runs COMMAND in N processes; all of them again, up to RESTARTS times, when one is lost."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)  # whoever starts this process may have held them back until now
    processes, restarts, *command = arguments
    rendezvous_handler_registry.register(_NAME, _loopback)
    count = ["--nnodes", "1", "--nproc-per-node", processes, "--max-restarts", restarts]
    torchrun(["--rdzv-backend", _NAME, *count, "--no-python", *command])


if __name__ == "__main__":
    main(sys.argv[1:])
