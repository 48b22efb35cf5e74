"""What a host was told is there stays there until it has loaded it."""

from __future__ import annotations

import threading
import time

import cairn


class Leases:
    """The leases behind a host's look-ups. One ends when its blocks have been loaded, or by itself
    after `seconds`. Thread-safe; holds at most `count_max` blocks, the oldest give way."""

    def __init__(
        self, store: cairn.Store, seconds: float = 10.0, count_max: int = 1 << 16
    ) -> None:
        self._store = store
        self._seconds = seconds
        self._count_max = count_max
        self._lock = threading.Lock()
        # Oldest first. A lease of several blocks ends with the last of them that refers to it.
        self._held: dict[bytes, tuple[float, cairn.LeadingHits]] = {}

    def count_leading(self, keys: list[bytes]) -> int:
        """How many of the keys, from the first on, are there. Looks at memory alone."""
        if not keys:
            return 0
        hits = self._store.count_leading(keys, duration=self._seconds)
        now = time.monotonic()
        with self._lock:
            for key in keys[: hits.count]:
                self._held.pop(key, None)
                self._held[key] = (now + self._seconds, hits)
            while self._held:
                key = next(iter(self._held))
                if self._held[key][0] > now and len(self._held) <= self._count_max:
                    break
                del self._held[key]
        return hits.count

    def end(self, keys: list[bytes]) -> None:
        with self._lock:
            for key in keys:
                self._held.pop(key, None)

    def end_all(self) -> None:
        with self._lock:
            self._held.clear()

    def __len__(self) -> int:
        return len(self._held)
