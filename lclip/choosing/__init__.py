"""Choosing among many: races, varied picks, shares of concepts and batches that balance them."""
