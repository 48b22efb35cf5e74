"""The store, with what is Python's own: with-blocks, iteration over keys, asyncio."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Iterator
from typing import Any

from . import _cairn
from ._asyncio import Waiters

_open_stores: weakref.WeakSet[Store] = weakref.WeakSet()


class Store(_cairn.Store):
    """A tensor store in one directory, used by one process. Every method may be called from any
    thread; none holds the GIL while it waits. Times are in seconds, None for no end.

    A tensor is a contiguous numpy array (bfloat16 and float8 by ml_dtypes), anything with
    __dlpack__ (torch, jax, cupy), or a buffer of bytes; a key is str (its UTF-8) or bytes, 1 to 255
    of them. Opening takes the fields of StoreOptions as keyword arguments.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        if "data_paths" in options:
            options["data_paths"] = [os.fspath(one) for one in options["data_paths"]]
        super().__init__(os.fspath(path), **options)
        self._waiters = Waiters()
        _open_stores.add(self)

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        super().close()
        _open_stores.discard(self)
        self._waiters.end()

    close.__doc__ = _cairn.Store.close.__doc__

    def scan(
        self, key_prefix: str | bytes = b"", *, page: int = 1024
    ) -> Iterator[tuple[bytes, _cairn.TensorInfo]]:
        """Keys that begin with the prefix, in byte order, and what is known of each. Takes `page`
        of them at a time; looks at every key in memory, so for tools and not for requests."""
        after, more = b"", True
        while more:
            entries, more = self._scan_page(key_prefix, after, page)
            yield from entries
            after = entries[-1][0] if entries else after

    async def get_async(self, key: str | bytes, **options: Any) -> _cairn.TensorHandle:
        """Like get, without blocking the event loop."""
        [completion] = await self._waiters.submit(self.submit_get, [[key]], 1, options)
        if completion.error is not None:
            raise completion.error
        return completion.handle

    async def get_into_async(self, keys: Any, tensors: Any, **options: Any) -> None:
        """Like get_into, without blocking the event loop. If it is cancelled, the transfers go on
        and the tensors are kept until they have ended."""
        await self._waiters.batch(self.submit_get_into, keys, tensors, options)

    async def put_from_async(self, keys: Any, tensors: Any, **options: Any) -> None:
        """Like put_from, without blocking the event loop; the tensors must stay as they are until
        it ends."""
        await self._waiters.batch(self.submit_put_from, keys, tensors, options)


@atexit.register
def _close_stores() -> None:
    # While threads that wait in a store can still get the GIL back.
    for store in list(_open_stores):
        if store.is_open:
            store.close()
