"""Made-up trees that break one law each: law -> (files with their text, what is said of them)."""

LONG = "\n" * 321
MANY_LONG_FUNCTIONS = "\n".join(f"def f{n}():\n" + "    x = 1\n" * 12 for n in range(3))

OFFENCES = {
    "every_file_stands_on_a_floor": [({"lclip/attic/a.py": ""}, "lclip/attic/a.py: its wing 'attic'")],
    "arrows_point_down": [
        (
            {"lclip/latents/a.py": "from ..model import b", "lclip/model/b.py": ""},
            "latents stands below model",
        ),
        (
            {"lclip/model/a.py": "from lclip.reno.b import C", "lclip/reno/b.py": ""},
            "a.py:1 imports lclip.reno.b.C",
        ),
        ({"lclip/data/a.py": "import lclip.bulk.b", "lclip/bulk/b.py": ""}, "data stands below bulk"),
        ({"lclip/data/a.py": "import lclip", "lclip/__init__.py": ""}, "data stands below lclip"),
        ({"lclip/mini/a.py": "from .. import load", "lclip/__init__.py": ""}, "mini stands below lclip"),
        (
            {"lclip/model/a.py": "def f():\n    from ..safety.b import C", "lclip/safety/b.py": ""},
            "a.py:2 imports lclip.safety.b.C",
        ),
        (
            {
                "lclip/model/a.py": "import typing\nif typing.TYPE_CHECKING:\n    from ..data import b",
                "lclip/data/b.py": "",
            },
            "model stands below data",
        ),
        (
            {
                "lclip/training/a.py": "from importlib import import_module as get\nget('lclip.mini')",
                "lclip/mini/__init__.py": "",
            },
            "training stands below mini",
        ),
        (
            {
                "lclip/model/a.py": "import importlib\nimportlib.import_module('..reno', __package__)",
                "lclip/reno/__init__.py": "",
            },
            "model stands below reno",
        ),
        (
            {"nodes/draw/a.py": "from ..host import b", "nodes/host/b.py": ""},
            "nodes/draw stands below nodes/host",
        ),
        ({"nodes/host/a.py": "from ..score import B", "nodes/score.py": ""}, "nodes/host stands below nodes"),
        ({"nodes/score.py": "from .. import WEB", "__init__.py": ""}, "nodes stands below pack"),
    ],
    "no_circle_of_wings": [
        (
            {
                "lclip/reno/a.py": "from ..safety import b",
                "lclip/safety/b.py": "",
                "lclip/reno/d.py": "",
                "lclip/safety/c.py": "def f():\n    from ..reno import d",
            },
            "wings in a circle: reno, safety",
        ),
    ],
    "no_circle_of_files": [
        (
            {"lclip/model/a.py": "from .b import C", "lclip/model/b.py": "def f():\n    from . import a"},
            "files in a circle: lclip/model/a.py, lclip/model/b.py",
        ),
        (
            {
                "lclip/model/a.py": "from . import b",
                "lclip/model/b.py": "from . import c",
                "lclip/model/c.py": "import typing\nif typing.TYPE_CHECKING:\n    from .a import A",
            },
            "lclip/model/a.py, lclip/model/b.py, lclip/model/c.py",
        ),
        (
            {"lclip/model/__init__.py": "from .a import A", "lclip/model/a.py": "from . import B"},
            "lclip/model/__init__.py, lclip/model/a.py",
        ),
        ({"benchmarks/a.py": "from . import b", "benchmarks/b.py": "import benchmarks.a"}, "benchmarks/a.py"),
        ({"nodes/host/a.py": "from . import b", "nodes/host/b.py": "from .a import C"}, "nodes/host/a.py"),
    ],
    "the_library_knows_no_nodes": [
        ({"lclip/reno/a.py": "from ...nodes.host import b", "nodes/host/b.py": ""}, "imports nodes.host.b"),
        ({"lclip/commands/a.py": "from nodes.draw import b", "nodes/draw/b.py": ""}, "imports nodes.draw.b"),
        (
            {"benchmarks/a.py": "def f():\n    import nodes.score", "nodes/score.py": ""},
            "imports nodes.score",
        ),
    ],
    "the_core_knows_no_mini_world": [
        (
            {"lclip/safety/a.py": "def f():\n    from ..mini.world import b", "lclip/mini/world.py": ""},
            "mini.world",
        ),
        ({"lclip/training/a.py": "__import__('lclip.mini')"}, "imports lclip.mini"),
        (
            {"lclip/__init__.py": "from .mini.world import World", "lclip/mini/world.py": ""},
            "imports lclip.mini.world",
        ),
    ],
    "nodes_know_no_commands": [
        (
            {"nodes/host/a.py": "from ...lclip.commands import b", "lclip/commands/b.py": ""},
            "no part of the pack",
        ),
        ({"nodes/a.py": "from ..benchmarks.b import C", "benchmarks/b.py": ""}, "no part of the pack"),
    ],
    "nodes_reach_the_library_by_dots": [
        ({"nodes/a.py": "import lclip", "lclip/__init__.py": ""}, "nodes/a.py:1 imports lclip"),
        ({"nodes/host/a.py": "from lclip.reno.b import C", "lclip/reno/b.py": ""}, "imports lclip.reno.b.C"),
        ({"__init__.py": "def f():\n    import lclip.model", "lclip/model/__init__.py": ""}, "lclip.model"),
    ],
    "node_files_know_no_other": [
        ({"nodes/a.py": "from .b import C", "nodes/b.py": ""}, "nodes/a.py:1 imports nodes.b.C"),
        ({"nodes/a.py": "def f():\n    from . import b", "nodes/b.py": ""}, "nodes/a.py:2 imports nodes.b"),
        (
            {"nodes/a.py": "from . import C", "nodes/__init__.py": "from .b import C", "nodes/b.py": ""},
            "nodes.C",
        ),
    ],
    "nodes_are_defined_in_node_files": [
        ({"nodes/host/a.py": "class A(io.ComfyNode): pass"}, "nodes/host/a.py:1 defines a node"),
        (
            {"nodes/latents.py": "from comfy_api.latest.io import ComfyNode\nclass A(ComfyNode): pass"},
            ":2 defines",
        ),
    ],
    "the_host_only_in_its_folder": [
        ({"nodes/a.py": "import comfy.samplers"}, "nodes/a.py:1 imports comfy.samplers"),
        ({"nodes/a.py": "def f():\n    from folder_paths import x"}, "imports folder_paths.x"),
        ({"nodes/draw/a.py": "from server import PromptServer"}, "imports server.PromptServer"),
        ({"nodes/a.py": "import nodes"}, "nodes/a.py:1 imports nodes"),
        ({"nodes/latents.py": "from comfy_execution.graph import x"}, "imports comfy_execution.graph.x"),
        ({"lclip/model/a.py": "import importlib\nimportlib.import_module('comfy.ops')"}, "imports comfy.ops"),
        ({"benchmarks/a.py": "import comfy_extras.nodes_apg"}, "imports comfy_extras.nodes_apg"),
        ({"lclip/model/a.py": "from comfy_api.latest import io"}, "ComfyUI's public API"),
        ({"nodes/draw/a.py": "from comfy_api.latest import ui"}, "ComfyUI's public API"),
    ],
    "only_what_can_be_read_is_imported": [
        (
            {"lclip/model/a.py": "import importlib\nimportlib.import_module('lclip.' + x)"},
            "a.py:2 imports what only",
        ),
        ({"nodes/a.py": "__import__(name)"}, "nodes/a.py:1 imports what only"),
    ],
    "imports_stay_in_the_house": [
        ({"lclip/model/a.py": "from .gone import B"}, "imports lclip.model.gone.B"),
        ({"lclip/model/a.py": "from ....other import B"}, "outside the pack"),
    ],
    "few_files_stand_outside_a_folder": [({"lclip/reno_more.py": ""}, "lclip/reno_more.py")],
    "files_are_short": [
        ({"lclip/model/a.py": LONG}, "lclip/model/a.py: 321 lines"),
        ({"nodes/a.py": LONG}, "nodes/a.py: 321 lines"),
    ],
    "functions_are_short": [
        ({"lclip/model/a.py": MANY_LONG_FUNCTIONS}, "lclip: the median function has 13 lines"),
        ({"lclip/model/a.py": "x = lambda: 1\n", "nodes/a.py": MANY_LONG_FUNCTIONS}, "nodes: the median"),
    ],
    "every_device_can_do_it": [
        ({"lclip/reno/a.py": "x = z.double()"}, "a.py:1 makes float64"),
        ({"lclip/reno/a.py": "x = z.cpu().double()\ny = z.float().double()"}, "a.py:2 makes float64"),
        ({"nodes/a.py": "x = z.to(z.device, torch.float64)"}, "a.py:1 makes float64"),
        ({"nodes/host/a.py": "x = z.to(dtype=torch.double)"}, "a.py:1 makes float64"),
        ({"lclip/model/a.py": "x = f(z, 2, antialias=True)"}, "a.py:1 resamples antialiased"),
    ],
}
