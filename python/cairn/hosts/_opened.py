"""The store of a host: opened once in a process for each directory, named for its bytes."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from typing import Any

import cairn


class Opened:
    """A store that the adapters of one process share. `release` ends one use of it, the last one
    closes it. In a process forked from this one every call raises ForkedError."""

    _lock = threading.Lock()
    _by_path: dict[str, Opened] = {}

    def __init__(self, path: str, fingerprint: str, options: dict[str, Any]) -> None:
        self.path = path
        self.fingerprint = fingerprint
        self.options = options
        self.users = 0
        self.pid = os.getpid()
        self.budgeted = options["l3_write_bytes_per_day"] is not None
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self.store = cairn.Store(
            path,
            fingerprint=fingerprint,
            other_fingerprint=cairn.OtherFingerprint.SHARE,
            **options,
        )

    def refuse_forked(self) -> None:
        if os.getpid() != self.pid:
            raise cairn.ForkedError(
                f"the store {self.path} was opened by process {self.pid}, which this one was "
                'forked from: start workers with "spawn"'
            )

    def release(self) -> None:
        self.refuse_forked()
        with Opened._lock:
            self.users -= 1
            if self.users == 0:
                del Opened._by_path[self.path]
                self.store.close()


def open_store(
    fingerprint: str,
    *,
    path: str,
    l2_bytes: int = 256 << 20,
    l3_bytes: int = 16 << 30,
    write_bytes_per_day: int | None = None,
    data_paths: list[str] | None = None,
    data_weights: list[int] | None = None,
    part: str = "",
) -> Opened:
    """The store in `path` (below it in the folder `part`, for what only one process may open), as
    a host's options describe it:

    l2_bytes: host memory for blocks that cannot go straight between the host's memory and the disk
        (4096-aligned ones can), and for those that wait for a write budget
    l3_bytes: space on disk; the coldest blocks make room
    write_bytes_per_day: absent, every block is written; 0: one drive write a day; or so many bytes
    data_paths: directories on other drives to spread the blocks over
    data_weights: one for each, where one is to take more of them than another
    """
    options: dict[str, Any] = {
        "l2_bytes_max": int(l2_bytes),
        "l3_bytes_max": int(l3_bytes),
        "l3_write_bytes_per_day": write_bytes_per_day,
    }
    if data_paths:
        options["data_paths"] = data_paths
    if data_weights:
        options["data_weights"] = data_weights
    path = os.path.realpath(os.path.join(path, part) if part else path)
    with Opened._lock:
        opened = Opened._by_path.get(path)
        if opened is None:
            opened = Opened(path, fingerprint, options)
            Opened._by_path[path] = opened
        opened.refuse_forked()
        if (opened.fingerprint, opened.options) != (fingerprint, options):
            raise cairn.FailedPreconditionError(
                f"{path} is open in this process as {opened.fingerprint!r} with {opened.options}, "
                f"and asked for as {fingerprint!r} with {options}: give each its own path"
            )
        opened.users += 1
        return opened


def fingerprint(host: str, model: str, facts: dict[str, Any]) -> str:
    """Names what the bytes of a block depend on and its key does not say: two models, dtypes, ranks
    or layouts never see each other's blocks."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    return f"{host}/{model.encode()[:128].decode(errors='ignore')}/{digest}"


def short_key(key: str | bytes) -> bytes:
    """The key as it is where a store takes it, else by its hash."""
    key = key.encode() if isinstance(key, str) else bytes(key)
    return key if len(key) <= 192 else b"sha256:" + hashlib.sha256(key).digest()
