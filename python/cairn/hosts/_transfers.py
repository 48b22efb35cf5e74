"""Blocks on their way between a store and a host's memory: job by job, beside its own threads."""

from __future__ import annotations

import atexit
import os
import select
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable

import numpy

import cairn

from ._leases import Leases
from ._opened import Opened

_BLOCKS_IN_FLIGHT_MAX = 256
_JOBS_WAITING_MAX = 4096
# A store that finds no room in this time refuses the block. Nobody of the host waits for it.
_ROOM_SECONDS = 1.0
_open_transfers: weakref.WeakSet[Transfers] = weakref.WeakSet()
# The block is as good as it was.
_SAYS_NOTHING_OF_THE_BLOCK = (cairn.FailedPreconditionError, cairn.ResourceExhaustedError)


@dataclass(eq=False)
class Job:
    """Blocks of one direction. The memory is the host's and must stay until the job has ended."""

    keys: list[bytes]
    memory: list[Any]
    """Of each block: an array, or a list of them."""
    loads: bool
    tag: Any = None
    errors: list[cairn.CairnError | None] = field(default_factory=list)
    """Of each block. After an error of a load its memory holds garbage."""
    nbytes: int = 0
    seconds: float = 0.0
    """From the submit to the end."""
    ended: threading.Event = field(default_factory=threading.Event)
    _missing: int = 0
    _next: int = 0

    @property
    def done(self) -> list[bool]:
        return [error is None for error in self.errors]


class Transfers:
    """Starts jobs without blocking, loads before stores, and says when they have ended. A block
    that could not be loaded is erased: the next look-up misses it, and the host stores it again.
    """

    def __init__(
        self, opened: Opened, leases: Leases, on_end: Callable[[Job], None], name: str
    ) -> None:
        self._opened = opened
        self._store = opened.store
        self._leases = leases
        self._on_end = on_end
        self._queue = cairn.CompletionQueue(_BLOCKS_IN_FLIGHT_MAX)
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # What waits and what is under way, both under the lock; the rest is the thread's own.
        self._lock = threading.Condition()
        self._loads: deque[Job] = deque()
        self._stores: deque[Job] = deque()
        self._unfinished = 0
        self._closing = False
        self._in_flight: dict[int, tuple[Job, int]] = {}
        self._next_tag = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()
        _open_transfers.add(self)

    def submit(self, job: Job) -> None:
        """Never blocks. A job too many, or one after close, ends at once with all its errors."""
        self._opened.refuse_forked()
        job.errors = [None] * len(job.keys)
        job._missing = len(job.keys)
        job.seconds = -time.monotonic()
        refused = None
        with self._lock:
            if self._closing:
                refused = cairn.FailedPreconditionError(f"{self._thread.name} is closed")
            elif len(self._loads) + len(self._stores) >= _JOBS_WAITING_MAX:
                refused = cairn.ResourceExhaustedError(
                    f"{_JOBS_WAITING_MAX} jobs wait for {self._opened.path} already"
                )
            self._unfinished += 1
            if refused is None and job.keys:
                (self._loads if job.loads else self._stores).append(job)
        if refused is not None or not job.keys:
            job.errors = [refused] * len(job.keys)
            self._finish(job)
        else:
            os.eventfd_write(self._wake, 1)

    def run(self, job: Job) -> list[bool]:
        """Submits the job and waits for its end: which blocks went well."""
        self.submit(job)
        job.ended.wait()
        return job.done

    @property
    def forked(self) -> bool:
        return self._opened.pid != os.getpid()

    def drain(self) -> None:
        """Waits until every job has ended; a transfer that the disk has cannot be taken back."""
        with self._lock:
            self._lock.wait_for(lambda: self._unfinished == 0)

    def close(self) -> None:
        """Ends what waits with errors, waits for what is under way, ends thread and leases."""
        self._opened.refuse_forked()
        with self._lock:
            if self._closing:
                return
            self._closing = True
        os.eventfd_write(self._wake, 1)
        self._thread.join()
        os.close(self._wake)
        self._leases.end_all()
        _open_transfers.discard(self)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        poll.register(self._queue.fileno(), select.POLLIN)
        while True:
            poll.poll()
            try:
                os.eventfd_read(self._wake)
            except BlockingIOError:
                pass
            self._drain_completions()
            while self._start_some():
                self._drain_completions()
            with self._lock:
                if self._closing and not (self._in_flight or self._loads or self._stores):
                    return

    def _drain_completions(self) -> None:
        for completion in self._queue.drain():
            job, index = self._in_flight.pop(completion.tag)
            self._end(job, index, completion.error)

    def _start_some(self) -> bool:
        """Starts what there is room for of the next job. False: nothing waits, or no room."""
        room = _BLOCKS_IN_FLIGHT_MAX - len(self._in_flight)
        with self._lock:
            waiting = self._loads or self._stores
            if not waiting or room == 0:
                return False
            job = waiting[0]
            begin = job._next
            end = len(job.keys) if self._closing else min(len(job.keys), begin + room)
            job._next = end
            if end == len(job.keys):
                waiting.popleft()
            closing = self._closing
        if closing:
            error = cairn.FailedPreconditionError(f"{self._thread.name} is closed")
            for index in range(begin, end):
                self._end(job, index, error)
        elif job.loads or not self._opened.budgeted:
            self._submit(job, begin, end)
        else:
            for index in range(begin, end):
                self._end(job, index, self._put(job.keys[index], job.memory[index]))
        return True

    def _submit(self, job: Job, begin: int, end: int) -> None:
        first_tag = self._next_tag
        self._next_tag += end - begin
        for index in range(begin, end):
            self._in_flight[first_tag + index - begin] = (job, index)
        arguments = (self._queue, job.keys[begin:end], job.memory[begin:end], first_tag)
        try:
            if job.loads:
                self._store.submit_get_into(*arguments)
            else:
                self._store.submit_put_from(
                    *arguments,
                    if_exists=cairn.IfExists.KEEP,
                    tensor_class=cairn.TensorClass.KV,
                    timeout=_ROOM_SECONDS,
                )
        except Exception as error:  # Nothing was started.
            for index in range(begin, end):
                del self._in_flight[first_tag + index - begin]
                self._end(job, index, error)

    def _put(self, key: bytes, memory: Any) -> Exception | None:
        # By way of L2, where the write budget decides what is written.
        try:
            self._store.put(
                key,
                numpy.concatenate(memory) if isinstance(memory, list) else memory,
                durability=cairn.Durability.IN_MEMORY,
                if_exists=cairn.IfExists.KEEP,
                tensor_class=cairn.TensorClass.KV,
                timeout=0,
            )
        except Exception as error:
            return error
        return None

    def _end(self, job: Job, index: int, error: Exception | None) -> None:
        job.errors[index] = error
        job._missing -= 1
        if job.loads:
            self._leases.end([job.keys[index]])
            if error is not None and not isinstance(error, _SAYS_NOTHING_OF_THE_BLOCK):
                try:
                    self._store.erase(job.keys[index])
                except cairn.CairnError:
                    pass  # As the load told already.
        if job._missing == 0:
            self._finish(job)

    def _finish(self, job: Job) -> None:
        job.seconds += time.monotonic()
        job.nbytes = sum(
            _nbytes(memory) for memory, error in zip(job.memory, job.errors) if error is None
        )
        job.memory = []  # The host may take its memory back.
        self._on_end(job)
        job.ended.set()
        with self._lock:
            self._unfinished -= 1
            self._lock.notify_all()


def _nbytes(memory: Any) -> int:
    return sum(piece.nbytes for piece in memory) if isinstance(memory, list) else memory.nbytes


@atexit.register
def _close_transfers() -> None:
    # A host that ends without closing its adapter: before the stores close, which came first.
    for transfers in list(_open_transfers):
        if not transfers.forked:
            transfers.close()
