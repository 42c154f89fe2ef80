"""Policies, judging by them, thresholds from examples, and repair."""
