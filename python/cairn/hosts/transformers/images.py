"""The images of one prompt: what they are, where their tokens lie, and their features, which are
stored so that an image seen before is not encoded again."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass

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
    if pixels is None:
        return Images()
    encoder = _encoder(model)
    if grid is None or encoder is None:
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
        digest = hashlib.blake2b(repr((one.tolist(), part.dtype, part.shape)).encode(), digest_size=32)
        digest.update(part.view(torch.uint8).numpy())
        length = count // merged
        if places[token + length - 1] - places[token] != length - 1:
            raise ValueError("the tokens of an image do not lie together, which PrefixCache needs")
        images.append(Image(digest.digest(), places[token], length, slice(patch, patch + count)))
        patch, token = patch + count, token + length
    return images


@contextlib.contextmanager
def stored_features(model, store, key_prefix: str, images: Images, restored: int, statistics):
    """While it lasts the model takes the features of images from the store, and only of those
    tokens that lie behind the restored ones."""
    encoder = _encoder(model)
    if encoder is None or not images:
        yield
        return
    encode = encoder.get_image_features

    def get_image_features(pixel_values, image_grid_thw=None, **options):
        remaining = images.remaining(restored)
        keys = [f"{key_prefix}{image.digest.hex()}" for image, _ in remaining]
        found = _load(store, keys, encoder.visual)
        for at, (image, _) in enumerate(remaining):
            if found[at] is not None:
                statistics.images_reused += 1
                continue
            # A repeated one is encoded where it comes first.
            if keys[at] in keys[:at]:
                found[at] = found[keys.index(keys[at])]
                statistics.images_reused += 1
                continue
            of = images.index(image)
            options["return_dict"] = True
            output = encode(pixel_values[image.patches], image_grid_thw[of : of + 1], **options)
            layers = [output.pooler_output, *(output.get("deepstack_features") or ())]
            found[at] = torch.stack([layer[0] for layer in layers])
            statistics.images_encoded += 1
            _save(store, keys[at], found[at], statistics)
        cut = [one[:, skip:] for one, (_, skip) in zip(found, remaining)]
        layers = list(zip(*(one.unbind(0) for one in cut)))
        return ImageFeatures(pooler_output=layers[0], deepstack_features=layers[1:])

    encoder.get_image_features = get_image_features
    try:
        yield
    finally:
        del encoder.get_image_features


def _encoder(model):
    """The module whose get_image_features the model calls for its pixels."""
    for module in reversed(list(model.modules())):
        if hasattr(type(module), "get_image_features") and hasattr(module, "visual"):
            return module
    return None


def _load(store, keys, visual):
    """Of each image its features, or None where they are not to be had."""
    like = next(visual.parameters())
    store.prefetch(keys)
    found = []
    for key in keys:
        try:
            with store.get(key) as handle:
                found.append(torch.from_dlpack(handle).to(like.device, copy=True))
        except cairn.FailedPreconditionError:
            raise
        except cairn.CairnError:
            found.append(None)
    return found


def _save(store, key, features, statistics):
    try:
        store.put(key, features.detach().cpu(), tensor_class=cairn.TensorClass.VISION)
    except cairn.FailedPreconditionError:
        raise
    except cairn.CairnError:
        statistics.saves_failed += 1
