"""ComfyUI nodes: each file is one concept; only `host` knows ComfyUI's internals."""
