"""All that knows ComfyUI's internals: a change of the host is mended here."""
