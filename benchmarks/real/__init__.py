"""Real pictures and real latent spaces: what is fetched, split, read and encoded. Every latent is TAESD's."""
