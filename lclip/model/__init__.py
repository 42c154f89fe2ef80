"""Latent-CLIP itself: configuration, two towers, tokenizers."""
