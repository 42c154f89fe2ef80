"""The noise search ReNO, and guidance of a sampler by a reward."""
