"""A Whisper model made on the spot: the real format, random weights, no download and no torch.

Whisper's weights can't be had without the internet. What this makes has their layout (vocabulary, special tokens,
tensors, files) at any size, so that the code that loads and runs them is tested for real. Its text means nothing:
lower-case letters and spaces, some timestamps, then an end. The same maker at a real model's shape serves for
speed and memory: `make_tiny_whisper(folder, **SHAPES["base"])`.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[np.floating[Any]]

__all__ = ["LANGUAGES", "SHAPES", "make_tiny_whisper"]

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"d_model": 384, "n_layers": 4, "n_heads": 6},
    "base": {"d_model": 512, "n_layers": 6, "n_heads": 8},
    "small": {"d_model": 768, "n_layers": 12, "n_heads": 12},
    "medium": {"d_model": 1024, "n_layers": 24, "n_heads": 16},
    "large-v3": {"d_model": 1280, "n_layers": 32, "n_heads": 20, "n_mels": 128},
    "turbo": {"d_model": 1280, "n_layers": 32, "n_heads": 20, "n_mels": 128, "n_decoder_layers": 4},
}
"""Source: table 1 of "Robust Speech Recognition via Large-Scale Weak Supervision" (2022), and the model cards of
openai/whisper-large-v3 and -turbo."""

_CODES = (
    "en zh de es ru ko fr ja pt tr pl ca nl ar sv it id hi fi vi he uk el ms cs ro da hu ta no th ur hr bg lt la mi ml "
    "cy sk te fa lv bn sr az sl kn et mk br eu is hy ne mn bs kk sq sw gl mr pa si km sn yo so af oc ka be tg sd gu am "
    "yi lo uz fo ht ps tk nn mt sa lb my bo tl mg as tt haw ln ha ba jw su"
)
LANGUAGES = tuple(_CODES.split())
"""The 99 codes in the order of their token ids. Source: the vocabulary of openai/whisper-tiny."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SPACE = "\u0120"
"""How byte-level BPE writes a space. Alone it is never said: faster-whisper suppresses the first byte of " -"."""

_BASE_TOKENS = 50_257
"""Text tokens of the multilingual vocabulary; the English one has one fewer."""

_TIMESTAMPS = 1_501
"""0.00 s to 30.00 s in steps of 0.02 s."""

_POSITION_SCALE = 20.0
"""Strong positions keep the text from repeating one letter for ever."""

_LOGIT_SPREAD = 4.0
_LOGITS = {"text": 0.0, "timestamp": -9.0, "end": -2.0, "rest": -40.0}
"""What is added to the logits, by kind of token: so that the text is letters, and comes to an end."""


def make_tiny_whisper(
    folder: Path,
    *,
    multilingual: bool = True,
    d_model: int = 16,
    n_layers: int = 1,
    n_heads: int = 2,
    n_mels: int = 80,
    n_decoder_layers: int | None = None,
    end_logit: float | None = None,
    seed: int = 6,
) -> Path:
    """Write a Whisper model with random weights in CTranslate2's format (float16, as published models are).

    Args:
        folder: Where to; made if it isn't there.
        multilingual: False makes an English-only model, as those whose names end in `.en`.
        d_model: Width; a multiple of `n_heads`.
        n_layers: Layers of the encoder, and of the decoder where `n_decoder_layers` is None.
        n_heads: Attention heads.
        n_mels: Mel bands: 80, or 128 as of large-v3.
        n_decoder_layers: Layers of the decoder.
        end_logit: The higher, the shorter the text; 40 makes a model that never says anything.
        seed: The same seed gives the same bytes. With 6 the smallest model says several segments a window.

    Returns:
        `folder`.
    """
    import ctranslate2
    import numpy as np

    n_decoder_layers = n_layers if n_decoder_layers is None else n_decoder_layers
    vocabulary = _vocabulary(multilingual)
    random = np.random.default_rng(seed)
    spec = ctranslate2.specs.WhisperSpec(n_layers, n_heads, n_decoder_layers, n_heads)

    def normal(*shape: int) -> Array:
        scale = 1 / math.sqrt(math.prod(shape[1:]))
        weights: Array = (random.standard_normal(shape, dtype=np.float32) * np.float32(scale)).astype(np.float16)
        return weights

    _fill_encoder(spec.encoder, normal, d_model, n_mels)
    _fill_decoder(spec.decoder, normal, d_model, _embeddings(vocabulary, normal, d_model, end_logit))
    spec.register_vocabulary(vocabulary)
    language_ids = [vocabulary.index(f"<|{code}|>") for code in LANGUAGES]
    spec.config.lang_ids = language_ids if multilingual else []
    spec.config.suppress_ids = []
    spec.config.suppress_ids_begin = [vocabulary.index(_SPACE), vocabulary.index("<|endoftext|>")]
    spec.config.alignment_heads = [(n_decoder_layers - 1, head) for head in range(n_heads)]
    spec.validate()
    spec.optimize(quantization="float16")
    folder.mkdir(parents=True, exist_ok=True)
    spec.save(str(folder))
    (folder / "tokenizer.json").write_text(json.dumps(_tokenizer(vocabulary)), encoding="utf-8")
    features = {"feature_size": n_mels, "sampling_rate": 16_000, "hop_length": 160, "chunk_length": 30, "n_fft": 400}
    (folder / "preprocessor_config.json").write_text(json.dumps(features), encoding="utf-8")
    return folder


def _byte_characters() -> list[str]:
    """The 256 characters that byte-level BPE writes bytes as, in the order of their token ids.

    Printable bytes stand for themselves and come first; the others are moved to U+0100 and above.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in printable] + [chr(0x100 + n) for n in range(256 - len(printable))]


def _vocabulary(multilingual: bool) -> list[str]:
    """All tokens in the order of their ids, laid out as in the published models."""
    text = _byte_characters() + [_SPACE + letter for letter in _LETTERS]
    text += [f"filler{n}" for n in range(_BASE_TOKENS - 1 - len(text))]
    if multilingual:
        text.append("")  # the one text token more; CTranslate2 takes a model that has it for multilingual
    special = ["<|endoftext|>", "<|startoftranscript|>", *(f"<|{code}|>" for code in LANGUAGES)]
    tasks = ("translate", "transcribe", "startoflm", "startofprev", "nospeech", "notimestamps")
    special += [f"<|{name}|>" for name in tasks]
    return text + special + [f"<|{step * 0.02:.2f}|>" for step in range(_TIMESTAMPS)]


def _tokenizer(vocabulary: list[str]) -> dict[str, Any]:
    """The tokenizer's file: byte-level BPE without merges, so that every byte is a token."""
    first_special = vocabulary.index("<|endoftext|>")
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "added_tokens": [
            {"id": index, "content": token, "special": index < len(vocabulary) - _TIMESTAMPS, **flags}
            for index, token in enumerate(vocabulary)
            if index >= first_special
        ],
        "pre_tokenizer": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {token: index for index, token in enumerate(vocabulary[:first_special])},
            "merges": [],
        },
    }


def _embeddings(vocabulary: list[str], normal: Any, d_model: int, end_logit: float | None) -> Array:
    """One row per token; its first column is added to the token's logit, see `_fill_decoder`."""
    weights: Array = normal(len(vocabulary), d_model)
    weights *= _LOGIT_SPREAD
    end = vocabulary.index("<|endoftext|>")
    weights[:, 0] = _LOGITS["rest"]
    for letter in _LETTERS:
        weights[vocabulary.index(letter), 0] = _LOGITS["text"]
        weights[vocabulary.index(_SPACE + letter), 0] = _LOGITS["text"]
    weights[end, 0] = _LOGITS["end"] if end_logit is None else end_logit
    weights[-_TIMESTAMPS:, 0] = _LOGITS["timestamp"]
    return weights


def _fill_norm(norm: Any, size: int) -> None:
    import numpy as np

    norm.gamma = np.ones(size, dtype=np.float16)
    norm.beta = np.zeros(size, dtype=np.float16)


def _fill_layer(layer: Any, normal: Any, d_model: int) -> None:
    """Attention to itself, attention to the encoder (in decoders), feed-forward."""
    shapes = {"self_attention": [(3, 1), (1, 1)], "attention": [(1, 1), (2, 1), (1, 1)]}
    for name, factors in shapes.items():
        if hasattr(layer, name):
            attention = getattr(layer, name)
            _fill_norm(attention.layer_norm, d_model)
            for linear, (rows, columns) in zip(attention.linear, factors, strict=True):
                linear.weight = normal(rows * d_model, columns * d_model)
    _fill_norm(layer.ffn.layer_norm, d_model)
    layer.ffn.linear_0.weight = normal(4 * d_model, d_model)
    layer.ffn.linear_1.weight = normal(d_model, 4 * d_model)


def _fill_encoder(encoder: Any, normal: Any, d_model: int, n_mels: int) -> None:
    encoder.conv1.weight = normal(d_model, n_mels, 3)
    encoder.conv2.weight = normal(d_model, d_model, 3)
    encoder.position_encodings.encodings = normal(1500, d_model)
    _fill_norm(encoder.layer_norm, d_model)
    for layer in encoder.layer:
        _fill_layer(layer, normal, d_model)


def _fill_decoder(decoder: Any, normal: Any, d_model: int, embeddings: Array) -> None:
    import numpy as np

    decoder.embeddings.weight = embeddings
    decoder.projection.weight = embeddings
    decoder.position_encodings.encodings = normal(448, d_model) * np.float16(_POSITION_SCALE)
    _fill_norm(decoder.layer_norm, d_model)
    # What reaches the projection is 1 in the first column whatever was heard: the embeddings' first column is a bias.
    decoder.layer_norm.gamma[0] = 0.0
    decoder.layer_norm.beta[0] = 1.0
    for layer in decoder.layer:
        _fill_layer(layer, normal, d_model)
