"""The KV cache of one sequence, and its layout in blocks: for each block of tokens one tensor with
all layers of a kind, full attention or a sliding window of one size."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DummyLayer, DynamicLayer, DynamicSlidingWindowLayer

from .images import Images

_ALIGNMENT = 4096  # Of memory that is read into straight from the disk.


class _RecordedSlidingLayer(DynamicSlidingWindowLayer):
    """A sliding window that keeps what passed through it too: the window alone could be saved only
    for its last blocks."""

    def __init__(self, sliding_window: int) -> None:
        super().__init__(sliding_window)
        self.passed: list[tuple[torch.Tensor, torch.Tensor]] = []

    def update(self, key_states, value_states, *args, **kwargs):
        self.passed.append((key_states, value_states))
        return super().update(key_states, value_states, *args, **kwargs)

    def crop(self, tokens_to_remove: int) -> None:
        super().crop(tokens_to_remove)
        if tokens_to_remove < 0 and self.passed:
            self.passed = [tuple(one[..., :tokens_to_remove, :] for one in self._all_passed())]

    def _all_passed(self):
        if len(self.passed) > 1:
            self.passed = [tuple(torch.cat(one, dim=-2) for one in zip(*self.passed))]
        return self.passed[0]


class PrefixKV(DynamicCache):
    """A DynamicCache whose first tokens came from a store, and whose blocks can be saved there. As
    transformers' own, but that sliding windows keep what passed through them."""

    def __init__(self, model: PreTrainedModel, images: Images) -> None:
        super().__init__(config=model.config)
        for index, layer in enumerate(self.layers):
            if type(layer) is DynamicSlidingWindowLayer:
                self.layers[index] = _RecordedSlidingLayer(layer.sliding_window)
        self.images = images
        self.restored_tokens = 0
        self.stored_blocks = 0

    def tokens(self, layer: int, begin: int, end: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of these tokens, which lie behind the restored ones."""
        of = self.layers[layer]
        if isinstance(of, _RecordedSlidingLayer):
            keys, values = of._all_passed()
            begin, end = begin - self.restored_tokens, end - self.restored_tokens
        else:
            keys, values = of.keys, of.values
        return keys[:, :, begin:end], values[:, :, begin:end]

    def fill(self, layer: int, keys: torch.Tensor, values: torch.Tensor, tokens: int) -> None:
        """Sets an empty layer to what it has after so many tokens, the last of which are these."""
        of = self.layers[layer]
        if isinstance(of, _RecordedSlidingLayer):
            kept = min(tokens, of.sliding_window - 1)
            keys, values = keys[:, :, -kept:], values[:, :, -kept:]
        of.update(keys[:, :, :0], values[:, :, :0])
        of.keys, of.values = keys, values
        if isinstance(of, _RecordedSlidingLayer):
            of.passed.clear()
            of.cumulative_length = tokens


@dataclass(frozen=True)
class _Layer:
    index: int
    heads: int
    key_dim: int
    value_dim: int
    device: torch.device = field(repr=False)

    @property
    def token_elements(self) -> int:
        return self.heads * (self.key_dim + self.value_dim)


@dataclass
class Group:
    """The layers that remember as many tokens."""

    window: int | None
    dtype: torch.dtype
    block_tokens: int
    layers: list[_Layer] = field(default_factory=list)

    @property
    def block_elements(self) -> int:
        return self.block_tokens * sum(layer.token_elements for layer in self.layers)

    @property
    def block_bytes(self) -> int:
        return self.block_elements * self.dtype.itemsize

    def first_block(self, blocks: int) -> int:
        """The first of the blocks that the next token still looks at."""
        if self.window is None:
            return 0
        return max(0, blocks * self.block_tokens - (self.window - 1)) // self.block_tokens

    def rows(self, count: int) -> torch.Tensor:
        """Memory for so many blocks, each at an address that the disk reads into straight."""
        stride = -(-self.block_bytes // _ALIGNMENT) * _ALIGNMENT
        memory = torch.empty(count * stride + _ALIGNMENT, dtype=torch.uint8)
        begin = -memory.data_ptr() % _ALIGNMENT
        rows = memory[begin : begin + count * stride].view(count, stride)
        return rows[:, : self.block_bytes].view(self.dtype)

    def pieces(self, rows: torch.Tensor):
        """For each layer its keys and values as views of the rows: [heads, blocks, tokens, dim]."""
        at = 0
        for layer in self.layers:
            pair = []
            for dim in (layer.key_dim, layer.value_dim):
                size = layer.heads * self.block_tokens * dim
                part = rows[:, at : at + size]
                part = part.unflatten(1, (layer.heads, self.block_tokens, dim))
                pair.append(part.transpose(0, 1))
                at += size
            yield layer, *pair

    def gather(self, cache: PrefixKV, first: int, count: int) -> torch.Tensor:
        """The blocks from `first` on as rows."""
        rows = self.rows(count)
        begin, end = first * self.block_tokens, (first + count) * self.block_tokens
        for layer, *targets in self.pieces(rows):
            for target, source in zip(targets, cache.tokens(layer.index, begin, end)):
                target.copy_(source[0].unflatten(1, (count, self.block_tokens)))
        return rows

    def empty(self, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For each layer keys and values of so many blocks, to scatter rows to."""
        tokens = count * self.block_tokens
        return [
            tuple(
                torch.empty(1, layer.heads, tokens, dim, dtype=self.dtype, device=layer.device)
                for dim in (layer.key_dim, layer.value_dim)
            )
            for layer in self.layers
        ]

    def scatter(self, rows: torch.Tensor, target, at: int) -> None:
        """Puts rows into what empty() gave, from block `at` on."""
        begin, end = at * self.block_tokens, (at + len(rows)) * self.block_tokens
        for (_, *sources), pair in zip(self.pieces(rows), target):
            for source, tensor in zip(sources, pair):
                part = tensor[0, :, begin:end].unflatten(1, (len(rows), self.block_tokens))
                part.copy_(source)


def cache_argument(model: PreTrainedModel, cache: PrefixKV) -> dict[str, PrefixKV]:
    """The cache by the name that the model takes it by: transformers has renamed it."""
    renamed = "cache" in inspect.signature(model.forward).parameters
    return {"cache" if renamed else "past_key_values": cache}


def layer_groups(model: PreTrainedModel, block_tokens: int) -> list[Group]:
    """How the model's layers remember, found by computing one token. Those of full attention come
    first. Raises for layers that are not made of keys and values of single tokens."""
    cache = PrefixKV(model, Images())
    _refuse_others(model, cache)
    device = model.get_input_embeddings().weight.device
    with torch.no_grad():
        model(torch.zeros(1, 1, dtype=torch.long, device=device), **cache_argument(model, cache))
    groups: dict[tuple, Group] = {}
    for index, layer in enumerate(cache.layers):
        if not isinstance(layer, DummyLayer) and layer.is_initialized:
            window = getattr(layer, "sliding_window", None)
            dtype = layer.keys.dtype
            if layer.values.dtype != dtype:
                raise ValueError(
                    f"{type(model).__name__} has keys of {dtype} and values of "
                    f"{layer.values.dtype} in layer {index}: PrefixCache has both of one dtype"
                )
            group = groups.setdefault(
                (window is not None, window, str(dtype)), Group(window, dtype, block_tokens)
            )
            _, heads, _, key_dim = layer.keys.shape
            value_dim = layer.values.shape[3]
            group.layers.append(_Layer(index, heads, key_dim, value_dim, layer.keys.device))
    return [groups[key] for key in sorted(groups, key=str)]


def _refuse_others(model, cache):
    name = type(model).__name__
    for layer in cache.layers:
        if type(layer) not in (DynamicLayer, _RecordedSlidingLayer, DummyLayer):
            raise ValueError(
                f"{name} has layers of {type(layer).__name__}, whose state is not keys and values "
                "of single tokens: PrefixCache has full attention and sliding windows only"
            )
    config = model.config.get_text_config(decoder=True)
    if "chunked_attention" in (getattr(config, "layer_types", None) or ()):
        raise ValueError(f"{name} has chunked attention, which PrefixCache does not know")
    rope = getattr(config, "rope_parameters", None) or {}
    for one in (rope, *(value for value in rope.values() if isinstance(value, dict))):
        if one.get("rope_type") in ("dynamic", "longrope"):
            raise ValueError(
                f"{name} has rope of type {one['rope_type']}: its keys depend on how long the text "
                "becomes, so a prefix has no keys of its own"
            )
