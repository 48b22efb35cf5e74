"""The object behind an L2 adapter of type native_plugin, for LMCache's multiprocess server. It
needs nothing from LMCache.

    lmcache server --l1-size-gb 64 --eviction-policy LRU --l2-adapter '{"type": "native_plugin",
      "module_path": "cairn.hosts.lmcache", "class_name": "CairnConnector",
      "adapter_params": {"path": "/nvme/kv", "l3_bytes": 500000000000}}'

Read from LMCache 0.5.6.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections import deque
from typing import Any

import numpy

import cairn

from ._leases import Leases
from ._opened import fingerprint, open_store, short_key
from ._transfers import Job, Transfers


class CairnConnector:
    """Submits return a number at once; its end is in drain_completions when event_fd is readable.
    Completions are (number, all went well, what the first error says, which keys did).

    LMCache's keys name model, rank, object group and chunk hash. What they do not name goes into
    adapter_params as `layout` (any text, such as the dtype and the chunk's tokens): what was stored
    under another is not seen. The other parameters are those of the store
    (_opened.open_store) and `lease_seconds`.
    """

    def __init__(
        self, *, layout: str = "", lease_seconds: float = 10.0, **store_options: Any
    ) -> None:
        self._opened = open_store(
            fingerprint("lmcache", layout, {"layout": layout}), **store_options
        )
        self._leases = Leases(self._opened.store, lease_seconds)
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._numbers = itertools.count(1)
        self._completions: deque[tuple[int, bool, str, list[bool] | None]] = deque()
        self._lock = threading.Lock()
        self._closed = False
        self._transfers = Transfers(self._opened, self._leases, self._end_job, "cairn-lmcache")

    def event_fd(self) -> int:
        return self._event_fd

    def submit_batch_get(self, keys: list[str], memoryviews: list[Any]) -> int:
        return self._submit(keys, memoryviews, loads=True)

    def submit_batch_set(self, keys: list[str], memoryviews: list[Any]) -> int:
        return self._submit(keys, memoryviews, loads=False)

    def submit_batch_exists(self, keys: list[str]) -> int:
        """Each key for itself; one that is there is leased until it is loaded."""
        return self._answer(keys, lambda key: self._leases.count_leading([key]) == 1)

    def submit_batch_delete(self, keys: list[str]) -> int:
        def erase(key: bytes) -> bool:
            self._leases.end([key])
            self._opened.store.erase(key)
            return True

        return self._answer(keys, erase)

    def drain_completions(self) -> list[tuple[int, bool, str, list[bool] | None]]:
        try:
            os.eventfd_read(self._event_fd)
        except BlockingIOError:
            pass
        done = []
        while self._completions:
            done.append(self._completions.popleft())
        return done

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._transfers.close()
        self._opened.release()
        os.close(self._event_fd)

    def _submit(self, keys: list[str], memoryviews: list[Any], loads: bool) -> int:
        number = next(self._numbers)
        self._transfers.submit(
            Job(
                keys=[short_key(key) for key in keys],
                memory=[numpy.frombuffer(view, numpy.uint8) for view in memoryviews],
                loads=loads,
                tag=number,
            )
        )
        return number

    def _answer(self, keys: list[str], ask: Any) -> int:
        self._opened.refuse_forked()
        number, answers, text = next(self._numbers), [], ""
        for key in keys:
            try:
                answers.append(ask(short_key(key)))
            except cairn.CairnError as error:
                answers.append(False)
                text = text or str(error)
        self._end(number, not text, text, answers)
        return number

    def _end_job(self, job: Job) -> None:
        errors = [str(error) for error in job.errors if error is not None]
        self._end(job.tag, not errors, errors[0] if errors else "", job.done)

    def _end(self, number: int, ok: bool, error: str, done: list[bool]) -> None:
        self._completions.append((number, ok, error, done))
        os.eventfd_write(self._event_fd, 1)
