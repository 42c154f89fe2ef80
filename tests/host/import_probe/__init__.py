"""A test-only pack: what loading the packs that follow it costs the host, as JSON in $IMPORT_PROBE.

It watches the host's own loader from the inside: modules, wall and processor seconds, per pack.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import nodes

load = nodes.load_custom_node
found: dict[str, dict] = {}


async def watched(path, *arguments, **options):
    modules, wall, processor = set(sys.modules), time.perf_counter(), time.process_time()
    success = await load(path, *arguments, **options)
    found[Path(path).name] = {
        "success": success,
        "wall": time.perf_counter() - wall,
        "processor": time.process_time() - processor,
        "start_processor": processor,
        "modules": sorted(set(sys.modules) - modules),
    }
    Path(os.environ["IMPORT_PROBE"]).write_text(json.dumps(found))
    return success


nodes.load_custom_node = watched
NODE_CLASS_MAPPINGS = {}
