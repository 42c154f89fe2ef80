"""Measuring a Latent-CLIP as papers do; it knows no mini world, whose parts come to it from above."""
