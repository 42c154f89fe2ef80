"""Latent adapters: one VAE's latents read as another's."""
