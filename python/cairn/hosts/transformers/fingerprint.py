"""What a model is: everything that its KV cache depends on but the tokens and images."""

from __future__ import annotations

import hashlib
import itertools
import json

import torch
import transformers

# Words of each weight whose order counts, and not just their sum.
_SAMPLES = 1024


def fingerprint(model: transformers.PreTrainedModel, weights_id: str | None) -> bytes:
    """32 bytes over the configuration, the dtype, the attention implementation, the devices, the
    versions of torch and transformers, and the weights: weights_id if it is given, else for each
    its name, dtype, shape, the sum of its bytes as words of 64 bits (any changed bit shows, at the
    rate of memory) and some of those words in order."""
    sum_of = hashlib.blake2b(digest_size=32)
    sum_of.update(json.dumps(_description(model), sort_keys=True, default=str).encode())
    if weights_id is not None:
        sum_of.update(b"\0named\0" + weights_id.encode())
        return sum_of.digest()
    for name, weight in _weights(model):
        _refuse_absent(name, weight)
        sum_of.update(f"\0{name} {weight.dtype} {tuple(weight.shape)}\0".encode())
        content = weight.detach().reshape(-1).view(torch.uint8)
        if content.storage_offset() % 8 != 0:
            content = content.clone()  # Words are aligned.
        words = content[: content.numel() // 8 * 8].view(torch.int64)
        sum_of.update(int(words.sum()).to_bytes(8, "little", signed=True))  # Modulo 2^64.
        sum_of.update(words[:: max(1, words.numel() // _SAMPLES)].cpu().numpy().tobytes())
        sum_of.update(content[words.numel() * 8 :].cpu().numpy().tobytes())
    return sum_of.digest()


def weights_version(model: transformers.PreTrainedModel) -> int:
    """Another number after a weight was replaced or written in place (but through .data)."""
    return hash(
        tuple(
            (name, id(weight), 0 if weight.is_inference() else weight._version)
            for name, weight in _weights(model)
        )
    )


def _weights(model):
    return itertools.chain(model.named_parameters(), model.named_buffers())


def _description(model):
    config = model.config.to_dict()
    for name in ("transformers_version", "_name_or_path", "architectures", "dtype"):
        config.pop(name, None)
    return {
        "class": type(model).__name__,
        "config": config,
        "dtype": str(model.dtype),
        # Each of these changes the last bits of what is computed.
        "attention": sorted(
            {str(getattr(one, "_attn_implementation", None)) for one in _configs(model.config)}
        ),
        "devices": sorted({weight.device.type for _, weight in _weights(model)}),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _configs(config):
    return [config, config.get_text_config(decoder=True)]


def _refuse_absent(name, weight):
    if weight.device.type == "meta":
        raise ValueError(
            f"the weight {name} is not in memory (device meta), so it cannot be told from that of "
            "another model: pass weights_id, a name for the weights"
        )
