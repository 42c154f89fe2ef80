"""Latents and pictures in files, folders and tar shards."""
