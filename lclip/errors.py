"""The one exception of our own."""


class CheckpointError(ValueError):
    """A file that is not a Latent-CLIP, or is one that is damaged."""
