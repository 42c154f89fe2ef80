"""What Latent-CLIP costs and gains, measured: `python -m benchmarks SECTION ...` writes RESULTS.md."""
