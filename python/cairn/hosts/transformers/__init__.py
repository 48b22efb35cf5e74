"""A prefix cache for generate() of Hugging Face transformers, in a store that outlives the process.

    from cairn.hosts.transformers import PrefixCache

    cache = PrefixCache(cairn.Store("/nvme/kv"), model)
    output = cache.generate(**inputs, max_new_tokens=64)   # As model.generate(**inputs, ...).
"""

try:
    import torch as _torch  # noqa: F401
    import transformers as _transformers
except ImportError as error:
    raise ImportError(
        "cairn.hosts.transformers needs torch and transformers 5 or later: "
        f"pip install 'transformers>=5' torch ({error})"
    ) from error
if int(_transformers.__version__.split(".")[0]) < 5:
    raise ImportError(
        "cairn.hosts.transformers needs transformers 5 or later, this is "
        f"{_transformers.__version__}"
    )

from .layers import PrefixKV
from .prefix_cache import PrefixCache, Statistics

__all__ = ["PrefixCache", "PrefixKV", "Statistics"]
