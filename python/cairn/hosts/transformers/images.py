"""The images of one prompt: what they are, where their tokens lie, and their features, which are
stored so that an image seen before is not encoded again."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

import cairn


@dataclass
class ImageFeatures(ModelOutput):
    """What get_image_features answers, as far as models read it."""

    pooler_output: tuple | None = None
    deepstack_features: list | None = None


@dataclass(frozen=True)
class Image:
    digest: bytes  # Over its pixels and its grid.
    begin: int  # Its first token.
    tokens: int
    patches: slice  # Of pixel_values.


class Images(list):
    """The images of a prompt, in order."""

    def remaining(self, tokens: int) -> list[tuple[Image, int]]:
        """Those with a token behind so many, and how many of their tokens lie before that."""
        return [
            (image, max(0, tokens - image.begin))
            for image in self
            if image.begin + image.tokens > tokens
        ]


def find_images(model: PreTrainedModel, tokens: torch.Tensor, inputs: dict) -> Images:
    """The images in one row of tokens. Raises for models that take them otherwise than by
    pixel_values and image_grid_thw, as those of Qwen do."""
    pixels, grid = inputs.get("pixel_values"), inputs.get("image_grid_thw")
    if pixels is None and grid is None:
        return Images()
    encoder = _encoder(model)
    if pixels is None or grid is None or encoder is None:
        raise ValueError(
            f"PrefixCache knows images as pixel_values with image_grid_thw (Qwen2-VL, Qwen3-VL); "
            f"{type(model).__name__} takes them otherwise"
        )
    merged = encoder.visual.spatial_merge_size**2
    places = (tokens == model.config.image_token_id).nonzero().flatten().tolist()
    counts = grid.prod(-1).tolist()
    if sum(counts) // merged != len(places) or sum(counts) != len(pixels):
        raise ValueError(
            f"image_grid_thw is of {sum(counts)} patches and {sum(counts) // merged} tokens; "
            f"pixel_values has {len(pixels)} patches, input_ids {len(places)} image tokens"
        )
    images, patch, token = Images(), 0, 0
    for one, count in zip(grid, counts):
        part = pixels[patch : patch + count].detach().cpu().contiguous()
        form = repr((one.tolist(), part.dtype, part.shape))
        digest = hashlib.blake2b(form.encode(), digest_size=32)
        digest.update(part.view(torch.uint8).numpy())
        length = count // merged
        if places[token + length - 1] - places[token] != length - 1:
            raise ValueError("the tokens of an image do not lie together, which PrefixCache needs")
        images.append(Image(digest.digest(), places[token], length, slice(patch, patch + count)))
        patch, token = patch + count, token + length
    return images


@dataclass(frozen=True)
class FeatureStore:
    """The features of images by what they are of, each one tensor: [pooled and deepstack layers,
    tokens, width]."""

    store: cairn.Store
    key_prefix: str
    statistics: Any

    @contextlib.contextmanager
    def used_by(self, model: PreTrainedModel, images: Images, restored: int):
        """While it lasts the model takes features from here, and only those of tokens that lie
        behind the restored ones."""
        encoder = _encoder(model)
        if encoder is None or not images:
            yield
            return
        encode = encoder.get_image_features

        # The names of its arguments are how generate() finds them.
        def get_image_features(pixel_values, image_grid_thw=None, **options):
            def encode_one(image):
                at = images.index(image)
                output = encode(
                    pixel_values[image.patches],
                    image_grid_thw[at : at + 1],
                    **{**options, "return_dict": True},
                )
                layers = [output.pooler_output, *(output.get("deepstack_features") or ())]
                return torch.stack([layer[0] for layer in layers])

            remaining = images.remaining(restored)
            features = self._features([image for image, _ in remaining], encode_one, encoder)
            cut = [one[:, skip:] for one, (_, skip) in zip(features, remaining)]
            pooled, *deepstack = zip(*(one.unbind(0) for one in cut))
            return ImageFeatures(pooler_output=pooled, deepstack_features=deepstack)

        encoder.get_image_features = get_image_features
        try:
            yield
        finally:
            del encoder.get_image_features

    def _features(self, images: list[Image], encode: Callable, encoder) -> list[torch.Tensor]:
        keys = [f"{self.key_prefix}{image.digest.hex()}" for image in images]
        device = next(encoder.visual.parameters()).device
        self.store.prefetch(keys)
        found: dict[str, torch.Tensor] = {}
        for key, image in zip(keys, images):
            if key not in found and (loaded := self._load(key)) is not None:
                found[key] = loaded.to(device)
            if key in found:
                self.statistics.images_reused += 1
                continue
            found[key] = encode(image)
            self.statistics.images_encoded += 1
            self._save(key, found[key])
        return [found[key] for key in keys]

    def _load(self, key: str) -> torch.Tensor | None:
        try:
            with self.store.get(key) as handle:
                return torch.from_dlpack(handle).clone()
        except cairn.FailedPreconditionError:
            raise
        except cairn.CairnError:
            return None

    def _save(self, key: str, features: torch.Tensor) -> None:
        try:
            self.store.put(key, features.detach().cpu(), tensor_class=cairn.TensorClass.VISION)
        except cairn.FailedPreconditionError:
            raise
        except cairn.CairnError:
            self.statistics.saves_failed += 1


def _encoder(model):
    """The module whose get_image_features the model calls for its pixels."""
    for module in reversed(list(model.modules())):
        if hasattr(type(module), "get_image_features") and hasattr(module, "visual"):
            return module
    return None
