"""Rewards: callables from clean raw latents to one number per item, higher is better."""
