"""A tiny latent preference model in LRM-XL's published layout, with what diffusers needs beside it."""

from __future__ import annotations

import json
from pathlib import Path

import torch

CHANNELS, WIDTH = (32, 64), 16


def save_preference(folder: Path, vocabulary: Path, seed: int = 3) -> Path:
    """folder/lrm: unet, text encoders and head, of random weights; folder/base: tokenizers as SDXL has them.

    vocabulary: CLIP's vocab.json and merges.txt, which every host holds. Returns folder/lrm.
    """
    import diffusers
    import transformers

    torch.manual_seed(seed)
    unet = diffusers.UNet2DConditionModel(
        sample_size=8, block_out_channels=CHANNELS, layers_per_block=2, in_channels=4, out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), cross_attention_dim=2 * WIDTH,
        attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), use_linear_projection=True,
        addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=WIDTH + 6 * 8,
    )  # fmt: skip
    unet.save_pretrained(folder / "lrm" / "unet")
    config = transformers.CLIPTextConfig(
        vocab_size=49408, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=77, projection_dim=WIDTH, eos_token_id=49407, bos_token_id=49406,
        pad_token_id=49407,
    )  # fmt: skip
    transformers.CLIPTextModel(config).save_pretrained(folder / "lrm" / "text_encoder")
    transformers.CLIPTextModelWithProjection(config).save_pretrained(folder / "lrm" / "text_encoder_2")
    weight = torch.randn(WIDTH, sum(CHANNELS) + CHANNELS[-1])
    head = {"visual_projection": {"weight": weight}, "logit_scale": torch.tensor(2.0)}
    torch.save(head, folder / "lrm" / "state_dict.pt")
    ids = json.loads((vocabulary / "vocab.json").read_text("utf-8"))
    merges = (vocabulary / "merges.txt").read_text("utf-8").splitlines()[1:]
    pairs = [tuple(line.split()) for line in merges if line.strip()]
    for part, padding in (("tokenizer", "<|endoftext|>"), ("tokenizer_2", "!")):
        made = transformers.CLIPTokenizer(vocab=ids, merges=pairs, pad_token=padding, model_max_length=77)
        made.save_pretrained(folder / "base" / part)
    return folder / "lrm"
