"""Training of Latent-CLIPs: from scratch or from a pixel CLIP, on one machine or many.

Nothing of the library imports this package; `python -m lclip train` and the mini world's own training do.
"""
