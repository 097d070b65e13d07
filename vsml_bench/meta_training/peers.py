"""The processes of one meta-training, as `torchrun` starts them: which of them this is, and how
what each has computed reaches all.

All of them do the same, from the same seeds, and share only what is expensive: the pieces of a
meta-update, which are numbered and whose sizes do not depend on the number of processes. All get
all pieces' results, in their order, and go on alike. Process 0 alone looks for checkpoints, writes
them and shows progress. Numbers and bytes are exchanged, and nothing is unpickled.

PyTorch is imported where it is needed, so that the process that only watches does without.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from vsml_bench.errors import VsmlBenchError
from vsml_bench.storage import canonical_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PATIENCE = timedelta(minutes=30)
"""How long a process waits for the others: for their pieces, which take about as long as its own,
and for process 0's validation. One that ends is noticed at once; this is for a machine that leaves
without a word."""
GO_ON = (
    "the last checkpoint is kept, and the same command, with any number of processes, goes on "
    "from it"
)


@dataclass(frozen=True)
class Peers:
    """The processes that make one checkpoint together, as one of them sees them."""

    number: int = 0
    """This one's (its rank)."""
    count: int = 1
    """Of all (the world size)."""
    local_number: int = 0
    """This one's among those of this machine."""
    local_count: int = 1
    """Of those of this machine."""

    @staticmethod
    def of_environment() -> Peers:
        """As the variables say that `torchrun` sets; one process alone where there are none.
        VsmlBenchError where they make no sense."""
        if "WORLD_SIZE" not in os.environ:
            return Peers()
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
        given = [os.environ.get(name, "") for name in names]
        given[2:] = given[2] or "0", given[3] or "1"  # not everything that starts processes says so
        if not all(text.isdigit() for text in given) or not int(given[0]) < int(given[1]):
            found = ", ".join(f"{name}={os.environ.get(name)}" for name in names)
            raise VsmlBenchError(
                f"{found}: expected what torchrun sets, a RANK less than WORLD_SIZE; start it with "
                "torchrun, or unset WORLD_SIZE."
            )
        peers = Peers(*map(int, given))
        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if peers.count > 1 and missing:
            raise VsmlBenchError(
                f"WORLD_SIZE={peers.count} without {missing[0]}: the processes cannot find each "
                "other; start them with torchrun, or unset WORLD_SIZE."
            )
        return peers

    @property
    def leads(self) -> bool:
        """Whether this is process 0, which looks, writes and speaks for all."""
        return self.number == 0

    @property
    def name(self) -> str:
        """What messages call this process."""
        return f"rank {self.number} of {self.count} processes"

    def threads(self, asked: int | None) -> int | None:
        """Threads of each process: without a number asked for, a number that does not depend on
        how many processes there are. It is what OMP_NUM_THREADS says, which torchrun sets to 1."""
        if asked is not None or self.count == 1:
            return asked
        given = os.environ.get("OMP_NUM_THREADS", "")
        return int(given) if given.isdigit() and int(given) else 1

    @contextlib.contextmanager
    def ending_together(self) -> Iterator[None]:
        """Meanwhile, errors say which process they are from, and so does this one when it is ended
        because of another."""
        if self.count == 1:
            yield
            return

        def end(*_: Any) -> None:
            raise VsmlBenchError(
                f"it was told to end, as torchrun does when another process has ended; {GO_ON}."
            )

        # A handler can be set in the main thread alone.
        of_main = threading.current_thread() is threading.main_thread()
        before = signal.signal(signal.SIGTERM, end) if of_main else None
        try:
            yield
        except VsmlBenchError as error:
            raise type(error)(f"{self.name}: {error}") from None
        finally:
            if of_main:
                signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

    @contextlib.contextmanager
    def joined(self, device: torch.device) -> Iterator[None]:
        """Meanwhile, the processes can hear each other: by NCCL if each has a GPU of its own, by
        Gloo otherwise. device: what they compute on."""
        if self.count == 1:
            yield
            return
        import torch
        import torch.distributed as dist

        gpus = torch.cuda.device_count() if device.type == "cuda" else 0
        if gpus:
            torch.cuda.set_device(self.local_number % gpus)
        if self.local_count == self.count:  # and nobody outside this machine need hear them
            os.environ.setdefault("GLOO_SOCKET_IFNAME", _loopback())
        backend = "nccl" if self.local_count <= gpus else "gloo"
        try:
            dist.init_process_group(
                backend, rank=self.number, world_size=self.count, timeout=PATIENCE
            )
        except RuntimeError as error:
            where = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT')}"
            interface = f"{backend.upper()}_SOCKET_IFNAME"
            raise VsmlBenchError(
                f"the processes do not find each other at {where} ({_first_line(error)}); every "
                f"machine must reach that address, and {interface} must name the network interface "
                f"that they share (now: {os.environ.get(interface, 'not set')})."
            ) from error
        try:
            yield
        finally:
            dist.destroy_process_group()

    def share(self, pieces: int) -> range:
        """Numbers of the pieces that this process computes."""
        return range(self.number, pieces, self.count)

    def gather(self, own: Sequence[Tensor], pieces: int, mark: int = 0) -> Tensor:
        """The rows of all pieces in their order, float64 [pieces, W].

        own: those of `share(pieces)`, [W] each; there is at least one. mark: a number below 2**53
        that stands for what all have in common; VsmlBenchError where it is not the same everywhere.
        """
        import torch

        rows = torch.stack(list(own)).double()
        if self.count == 1:
            return rows
        most = -(-pieces // self.count)
        sent = rows.new_zeros(most, 1 + rows.shape[1])
        sent[:, 0] = mark
        sent[: len(rows), 1:] = rows
        received = torch.stack(self._all_gather(sent), 1)  # [most, count, 1 + W]
        for number, other in enumerate(received[0, :, 0].tolist()):
            if other != received[0, 0, 0]:
                raise VsmlBenchError(
                    f"rank {number} has other meta-parameters than rank 0, though both have taken "
                    "the same steps: the learner does not compute the same in each process; "
                    f"meta-train it in one. {GO_ON[0].upper()}{GO_ON[1:]}."
                )
        return received[:, :, 1:].flatten(0, 1)[:pieces].to(rows.device)

    def exchange(self, own: bytes) -> list[bytes]:
        """What each process says, by its number."""
        import torch

        if self.count == 1:
            return [own]
        lengths = [int(n) for n in self._all_gather(torch.tensor([len(own)]))]
        sent = torch.zeros(max(1, *lengths), dtype=torch.uint8)
        sent[: len(own)] = torch.frombuffer(bytearray(own) or bytearray(1), dtype=torch.uint8)[
            : len(own)
        ]
        received = self._all_gather(sent)
        return [
            bytes(words[:length].cpu().numpy())
            for words, length in zip(received, lengths, strict=True)
        ]

    def told(self, own: bytes) -> bytes:
        """What process 0 says; the others' words are not heard."""
        return self.exchange(own if self.leads else b"")[0]

    def decided(self, own: bool) -> bool:
        """What process 0 decides, for all."""
        return bool(self.told(b"1" if own else b""))

    def agree(self, facts: Mapping[str, Any]) -> None:
        """VsmlBenchError, in all processes, where what they begin with is not the same."""
        first, *others = map(json.loads, self.exchange(canonical_json(facts).encode()))
        for number, found in enumerate(others, 1):
            for name, expected in first.items():
                if found[name] != expected:
                    theirs, ours = _difference(found[name], expected)
                    raise VsmlBenchError(
                        f"rank {number} has other {name} than rank 0: {theirs} instead of {ours}; "
                        "all processes of a meta-training must have the same."
                    )

    def _all_gather(self, sent: Tensor) -> list[Tensor]:
        import torch
        import torch.distributed as dist

        sent = sent.to("cuda" if dist.get_backend() == "nccl" else "cpu")
        received = [torch.empty_like(sent) for _ in range(self.count)]
        try:
            dist.all_gather(received, sent)
        except RuntimeError as error:
            raise VsmlBenchError(
                "another process has ended, or has said nothing for "
                f"{PATIENCE.total_seconds() / 60:.0f} minutes; {GO_ON} ({_first_line(error)})."
            ) from error
        return received


ALONE = Peers()


def _loopback() -> str:
    """The network interface that reaches this machine alone."""
    return next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


def _first_line(error: Exception) -> str:
    """The reason, without the stack that PyTorch appends."""
    return str(error).split("\n", 1)[0].rstrip(".")


def _difference(one: Any, other: Any) -> tuple[str, str]:
    """The first entry that differs, or the whole of what has none."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                return f"{key} {one.get(key)}", f"{key} {other.get(key)}"
    return str(one), str(other)
