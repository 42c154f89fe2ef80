"""Many latents at once: one question asked of files, folders and tar shards, on one machine or several.

Items are streamed, so memory does not grow with their number; results are written so that a run which was
interrupted goes on where it was. Nothing of the library imports this package; `python -m lclip` does.
"""
