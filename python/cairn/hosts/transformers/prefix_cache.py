"""The prefix cache: what generate() computed for the tokens of a prompt is stored in blocks, and
the next prompt that begins with the same tokens starts behind them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel

import cairn

from .fingerprint import fingerprint, weights_version
from .images import FeatureStore, Images, find_images
from .layers import Group, PrefixKV, cache_argument, layer_groups

# What one get_into brings at once: enough for a disk, and bounded beside a long prompt.
_BATCH_BYTES = 128 << 20

_TENSORS = ("input_ids", "attention_mask", "mm_token_type_ids", "pixel_values", "image_grid_thw")


@dataclass
class Statistics:
    """Since the cache was made; tokens are those of prompts."""

    tokens_restored: int = 0
    tokens_computed: int = 0
    images_restored: int = 0
    """All of their tokens were."""
    images_reused: int = 0
    """Their features came from the store."""
    images_encoded: int = 0
    blocks_restored: int = 0
    blocks_lost: int = 0
    """The store had them and could not read them: the prefix ended there."""
    blocks_saved: int = 0
    saves_failed: int = 0
    bytes_restored: int = 0
    bytes_saved: int = 0


class PrefixCache:
    """The KV cache of one model in a store, in blocks of tokens. The key of a block depends on all
    tokens and images up to its end, and on the model (see fingerprint.py): two models may share
    a store. One sequence at a time, from one thread.

    What cannot be loaded is computed; only a whole prefix is ever used. `weights_id` names the
    weights where reading them once would take too long (or they are not in memory).
    """

    def __init__(
        self,
        store: cairn.Store,
        model: PreTrainedModel,
        *,
        block_tokens: int = 64,
        weights_id: str | None = None,
    ) -> None:
        if not isinstance(model, PreTrainedModel):
            raise TypeError(f"PrefixCache takes a transformers model, not a {type(model).__name__}")
        if not 1 <= block_tokens <= 4096:
            raise ValueError(f"block_tokens is {block_tokens}: give 1 to 4096, best 16 to 256")
        self.statistics = Statistics()
        self._store, self._model = store, model
        self._block_tokens, self._weights_id = block_tokens, weights_id
        self._weights_version: int | None = None
        self._groups: list[Group] = []
        self._prefix = ""
        self._name_model()

    @property
    def key_prefix(self) -> str:
        """Of every key of this model: store.erase_prefix(cache.key_prefix) forgets it."""
        return self._prefix

    def generate(self, input_ids: torch.Tensor, **options: Any) -> Any:
        """model.generate(input_ids, **options), from the longest stored prefix on; then saves the
        blocks that were not there, those of the generated tokens too."""
        self._check_options(input_ids, options)
        cache = self.restore(input_ids, **_images_of(options))
        prompt, restored = input_ids.shape[1], cache.restored_tokens
        self.statistics.tokens_computed += prompt - restored
        remaining = cache.images.remaining(restored)
        self.statistics.images_restored += len(cache.images) - len(remaining)
        if not remaining:
            options.pop("pixel_values", None)
        # Qwen's models keep the last prompt's positions, and believe them when there is a cache.
        for module in self._model.modules():
            if getattr(module, "rope_deltas", None) is not None:
                module.rope_deltas = None
        features = FeatureStore(self._store, self._prefix + "vision/", self.statistics)
        with features.used_by(self._model, cache.images, restored):
            output = self._model.generate(
                input_ids, **cache_argument(self._model, cache), **options
            )
        self.save(output if isinstance(output, torch.Tensor) else output.sequences, cache)
        return output

    @torch.no_grad()
    def restore(
        self,
        input_ids: torch.Tensor,
        *,
        pixel_values: torch.Tensor | None = None,
        image_grid_thw: torch.Tensor | None = None,
    ) -> PrefixKV:
        """The cache of the longest stored prefix of [1, tokens], at least one token short of it,
        for the model to go on with behind cache.restored_tokens."""
        self._name_model()
        tokens = _one_row(input_ids)
        images = {"pixel_values": pixel_values, "image_grid_thw": image_grid_thw}
        cache = PrefixKV(self._model, find_images(self._model, tokens, images))
        keys = self._keys(tokens[:-1], cache.images)
        with self._leading(keys) as hits:
            blocks = self._load(cache, keys[: hits.count // len(self._groups)])
        cache.stored_blocks = blocks
        cache.restored_tokens = blocks * self._block_tokens
        self.statistics.blocks_restored += blocks
        self.statistics.tokens_restored += cache.restored_tokens
        return cache

    @torch.no_grad()
    def save(self, input_ids: torch.Tensor, cache: PrefixKV) -> int:
        """Stores the whole blocks of these tokens that `cache`, which restore() gave, has computed
        since; returns how many. A last block that is not full is not stored. What the store
        refuses is counted and not raised: it will be computed again."""
        tokens = _one_row(input_ids)[: cache.get_seq_length()]
        keys = self._keys(tokens, cache.images)
        first, saved = cache.stored_blocks, self.statistics.blocks_saved
        with self._leading(keys[first:]) as hits:
            first += hits.count // len(self._groups)
        for group in range(len(self._groups)):
            self._save_group(cache, keys, group, first)
        cache.stored_blocks = max(first, len(keys))
        return self.statistics.blocks_saved - saved

    def _save_group(self, cache: PrefixKV, keys: list[list[str]], at: int, first: int) -> None:
        group = self._groups[at]
        step = max(1, _BATCH_BYTES // group.block_bytes)
        for begin in range(first, len(keys), step):
            count = min(step, len(keys) - begin)
            for row, key in zip(group.gather(cache, begin, count), keys[begin : begin + count]):
                try:
                    # A key names its content, so what is there stays; a damaged one is replaced.
                    self._store.put(
                        key[at],
                        row,
                        if_exists=cairn.IfExists.KEEP,
                        tensor_class=cairn.TensorClass.KV,
                    )
                except cairn.FailedPreconditionError:
                    raise
                except cairn.CairnError:
                    self.statistics.saves_failed += 1
                    continue
                self.statistics.blocks_saved += at == 0
                self.statistics.bytes_saved += group.block_bytes

    def _name_model(self) -> None:
        """Once, and again when a weight was changed."""
        version = weights_version(self._model)
        if version == self._weights_version:
            return
        if getattr(self._model, "_hf_peft_config_loaded", False):
            raise ValueError(
                "the model has adapters, which PrefixCache cannot tell apart: merge them first"
            )
        self._groups = layer_groups(self._model, self._block_tokens)
        name = hashlib.blake2b(fingerprint(self._model, self._weights_id), digest_size=16)
        name.update(repr((self._block_tokens, self._groups)).encode())
        self._prefix = f"transformers/{name.hexdigest()}/"
        self._weights_version = version

    def _keys(self, tokens: torch.Tensor, images: Images) -> list[list[str]]:
        """Of each whole block, the keys of its tensors, one for each group of layers. Each depends
        on all tokens up to the block's end and on the images that begin there."""
        digest = hashlib.blake2b(self._prefix.encode(), digest_size=32).digest()
        starts: dict[int, bytes] = {}
        for image in images:
            block = image.begin // self._block_tokens
            place = image.begin.to_bytes(8, "little")
            starts[block] = starts.get(block, b"") + place + image.digest
        keys = []
        whole = len(tokens) // self._block_tokens * self._block_tokens
        blocks = tokens[:whole].to(torch.int64).view(-1, self._block_tokens).numpy()
        for at, block in enumerate(blocks):
            link = digest + block.astype("<i8").tobytes() + starts.get(at, b"")
            digest = hashlib.blake2b(link, digest_size=32).digest()
            name = f"{self._prefix}kv/{digest.hex()}"
            keys.append([f"{name}/{group}" for group in range(len(self._groups))])
        return keys

    def _leading(self, keys: list[list[str]]) -> cairn.LeadingHits:
        return self._store.count_leading([key for block in keys for key in block])

    def _load(self, cache: PrefixKV, keys: list[list[str]]) -> int:
        """Fills the cache with the leading blocks that can be read; returns how many those are."""
        blocks = len(keys)
        # Of each group: the first block that was read, and what was read.
        parts: dict[int, tuple[int, list]] = {}
        at = 0
        while blocks and at < len(self._groups):
            first = self._groups[at].first_block(blocks)
            if at not in parts or first < parts[at][0]:
                good, tensors = self._read(at, keys[first:blocks])
                parts[at] = (first, tensors)
                if first + good < blocks:
                    # The prefix ends earlier, and so do the windows: they reach further back.
                    self.statistics.blocks_lost += 1
                    blocks, at = first + good, 0
                    continue
            at += 1
        if not blocks:
            return 0
        for at, group in enumerate(self._groups):
            first, tensors = parts[at]
            kept = (blocks - first) * self._block_tokens
            for layer, (key, value) in zip(group.layers, tensors):
                length = blocks * self._block_tokens
                cache.fill(layer.index, key[:, :, :kept], value[:, :, :kept], length)
        return blocks

    def _read(self, at: int, keys: list[list[str]]) -> tuple[int, list]:
        """The leading blocks of a group that can be read: how many, and for each layer its keys
        and values."""
        group, good = self._groups[at], 0
        tensors = group.empty(len(keys))
        step = max(1, _BATCH_BYTES // group.block_bytes)
        while good < len(keys):
            names = [block[at] for block in keys[good : good + step]]
            rows = group.rows(len(names))
            read = _get_leading(self._store, names, rows)
            group.scatter(rows[:read], tensors, good)
            good += read
            self.statistics.bytes_restored += read * group.block_bytes
            if read < len(names):
                break
        return good, tensors

    def _check_options(self, input_ids: torch.Tensor, options: dict[str, Any]) -> None:
        """Raises for what makes other keys and values than the tokens and images alone do."""
        if self._model.training:
            raise ValueError("the model is in training mode, where dropout is random: model.eval()")
        _one_row(input_ids)
        for name, value in options.items():
            if isinstance(value, torch.Tensor) and name not in _TENSORS:
                raise ValueError(f"generate() with {name} cannot be cached: its keys are of tokens")
        mask = options.get("attention_mask")
        if mask is not None and not bool(mask.all()):
            raise ValueError("attention_mask hides tokens: pass the sequence without padding")
        types, images = options.get("mm_token_type_ids"), options.get("pixel_values") is not None
        if types is not None or images:
            places = input_ids == getattr(self._model.config, "image_token_id", -1)
            if types is None or not torch.equal(types.bool().cpu(), (places & images).cpu()):
                raise ValueError(
                    "mm_token_type_ids must be 1 for the tokens of images and 0 elsewhere, as a "
                    "processor makes it"
                )
        self._check_way(input_ids, options)

    def _check_way(self, input_ids: torch.Tensor, options: dict[str, Any]) -> None:
        """Raises for ways to generate that need another cache."""
        config = options.get("generation_config") or self._model.generation_config

        def option(name):
            return options.get(name, getattr(config, name, None))

        for name in ("cache", "past_key_values", "assistant_model", "custom_generate"):
            if options.get(name) is not None:
                raise ValueError(f"generate() with {name} cannot be cached by PrefixCache")
        for name in ("cache_implementation", "prompt_lookup_num_tokens", "use_mtp"):
            if option(name) not in (None, False, "dynamic"):
                raise ValueError(f"generate() with {name}={option(name)!r} keeps no DynamicCache")
        for name in ("num_beams", "num_return_sequences"):
            if (option(name) or 1) != 1:
                raise ValueError(f"generate() with {name}={option(name)} makes several sequences")
        if option("use_cache") is False:
            raise ValueError("generate() with use_cache=False computes no KV cache")
        pad = option("pad_token_id")
        if options.get("attention_mask") is None and pad is not None:
            if bool((input_ids == pad).any()):
                raise ValueError("input_ids has padding tokens: pass an attention_mask of ones")


def _images_of(options: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: options[name] for name in ("pixel_values", "image_grid_thw") if name in options}


def _one_row(input_ids: torch.Tensor) -> torch.Tensor:
    if input_ids.ndim != 2 or input_ids.shape[0] != 1 or input_ids.shape[1] == 0:
        raise ValueError(
            f"input_ids is of shape {tuple(input_ids.shape)}: PrefixCache takes one sequence at a "
            "time, [1, tokens]"
        )
    return input_ids[0].cpu()


def _get_leading(store: cairn.Store, keys: list[str], rows: torch.Tensor) -> int:
    """Reads into the rows; how many of them from the first on are good."""
    try:
        store.get_into(keys, list(rows))
    except cairn.BatchError as error:
        return next(at for at, one in enumerate(error.errors) if one is not None)
    except cairn.FailedPreconditionError:
        raise
    except cairn.CairnError:
        return 0
    return len(keys)
