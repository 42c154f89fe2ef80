"""Files of weights: read without running anything in them, written in one step."""
