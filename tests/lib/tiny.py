"""Latent-CLIPs of a few thousand random weights, in the sizes that tests want."""

import torch

from lclip import LatentCLIP, LatentCLIPConfig, WordTokenizer


def tiny_config(words, *, embed_dim, width, layers, heads, context_length=8, **other):
    """Both towers of one width; 4 channels, patch 2, grid 4 unless `other` says otherwise."""
    fields = {
        "channels": 4,
        "patch_size": 2,
        "grid": 4,
        "latent_space": "mini",
        "tokenizer": "words",
        **other,
    }
    return LatentCLIPConfig(
        embed_dim=embed_dim,
        vision_width=width,
        vision_layers=layers,
        vision_heads=heads,
        text_width=width,
        text_layers=layers,
        text_heads=heads,
        context_length=context_length,
        vocab_size=len(words) + 4,
        **fields,
    )


def random_model(config, words, seed=0):
    """A frozen model of this configuration; the same for the same seed."""
    torch.manual_seed(seed)
    model = LatentCLIP(config, tokenizer=WordTokenizer(words, config.context_length))
    return model.requires_grad_(False).eval()
