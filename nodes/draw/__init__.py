"""Pictures that nodes show on themselves. Knows nothing of the host."""
