"""What latents are: their spaces, what is wrong with a batch, how another size is read. Knows no model."""
