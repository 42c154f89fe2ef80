"""The pack as the browser sees it: nodes, sockets, tooltips."""

from __future__ import annotations

import re

import pytest

# node id -> inputs that must be there, in order, with types; outputs in order. More widgets are free.
SOCKETS = {
    "LatentCLIP_Load": ([("file", "COMBO")], ["LATENT_CLIP"]),
    "LatentCLIP_MiniWorld": ([], ["MODEL", "CLIP", "VAE", "LATENT_CLIP"]),
    "LatentCLIP_MiniTwin": ([], ["MODEL", "CLIP", "VAE"]),
    "LatentCLIP_TrainAdapter": (
        [("latent_clip", "LATENT_CLIP"), ("vae", "VAE"), ("own_vae", "VAE"), ("images", "IMAGE")],
        ["LATENT_ADAPTER", "FLOAT", "FLOAT", "STRING"],
    ),
    "LatentCLIP_ApplyAdapter": (
        [("latent_clip", "LATENT_CLIP"), ("file", "COMBO"), ("adapter", "LATENT_ADAPTER")],
        ["LATENT_CLIP", "STRING"],
    ),
    "LatentCLIP_Bridge": (
        [("latent_clip", "LATENT_CLIP"), ("vae", "VAE"), ("own_vae", "VAE"), ("latents", "COMBO")],
        ["LATENT_CLIP"],
    ),
    "LatentCLIP_Score": (
        [("latent_clip", "LATENT_CLIP"), ("latent", "LATENT"), ("text", "STRING")],
        ["LATENT", "FLOAT", "FLOAT", "STRING"],
    ),
    "LatentCLIP_Classify": (
        [("latent_clip", "LATENT_CLIP"), ("latent", "LATENT"), ("labels", "STRING")],
        ["LATENT", "STRING", "FLOAT", "IMAGE"],
    ),
    "LatentCLIP_Select": (
        [
            ("latent", "LATENT"),
            ("reward", "LATENT_REWARD"),
            ("k", "INT"),
            ("keep_by", "COMBO"),
            ("threshold", "FLOAT"),
            ("sort", "BOOLEAN"),
            ("variety", "FLOAT"),
            ("seed", "INT"),
        ],
        [
            *("LATENT", "LATENT", "FLOAT", "STRING"),
            *("FLOAT", "INT", "INT", "STRING", "FLOAT", "IMAGE"),
        ],
    ),
    "LatentCLIP_Heatmap": (
        [("latent_clip", "LATENT_CLIP"), ("latent", "LATENT"), ("text", "STRING")],
        ["MASK", "IMAGE"],
    ),
    "LatentCLIP_SafetyPolicy": ([("latent_clip", "LATENT_CLIP")], ["LATENT_SAFETY_POLICY"]),
    "LatentCLIP_SafetyGate": (
        [("policy", "LATENT_SAFETY_POLICY"), ("latent", "LATENT"), ("action", "COMBO")],
        ["LATENT", "LATENT", "LATENT", "BOOLEAN", "INT", "STRING"],
    ),
    "LatentCLIP_SafetyGuard": (
        [
            ("model", "MODEL"),
            ("policy", "LATENT_SAFETY_POLICY"),
            ("check_from", "FLOAT"),
            ("check_to", "FLOAT"),
            ("on_unsafe", "COMBO"),
        ],
        ["MODEL"],
    ),
    "LatentCLIP_SafetyReward": (
        [("policy", "LATENT_SAFETY_POLICY"), ("weight", "FLOAT"), ("add_to", "LATENT_REWARD")],
        ["LATENT_REWARD"],
    ),
    "LatentCLIP_CalibrateSafety": (
        [("policy", "LATENT_SAFETY_POLICY"), ("safe", "LATENT"), ("unsafe", "LATENT")],
        ["LATENT_SAFETY_POLICY", "STRING", "IMAGE"],
    ),
    "LatentCLIP_TextReward": (
        [
            ("latent_clip", "LATENT_CLIP"),
            ("text", "STRING"),
            ("weight", "FLOAT"),
            ("add_to", "LATENT_REWARD"),
        ],
        ["LATENT_REWARD"],
    ),
    "LatentCLIP_ImageReward": (
        [
            ("latent_clip", "LATENT_CLIP"),
            ("weight", "FLOAT"),
            ("reference", "LATENT"),
            ("add_to", "LATENT_REWARD"),
            ("image", "IMAGE"),
            ("vae", "VAE"),
        ],
        ["LATENT_REWARD"],
    ),
    "LatentCLIP_VarietyReward": (
        [("latent_clip", "LATENT_CLIP"), ("weight", "FLOAT"), ("add_to", "LATENT_REWARD")],
        ["LATENT_REWARD"],
    ),
    "LatentCLIP_PreferenceReward": (
        [("file", "COMBO"), ("text", "STRING"), ("weight", "FLOAT"), ("add_to", "LATENT_REWARD")],
        ["LATENT_REWARD"],
    ),
    "LatentCLIP_Shares": (
        [
            ("latent_clip", "LATENT_CLIP"),
            ("latent", "LATENT"),
            ("concepts", "STRING"),
            ("target", "STRING"),
            ("margin", "FLOAT"),
            ("examples", "LATENT"),
            ("labels", "STRING"),
        ],
        ["LATENT", "STRING", "FLOAT", "IMAGE", "STRING"],
    ),
    "LatentCLIP_Balance": (
        [
            ("latent_clip", "LATENT_CLIP"),
            ("latent", "LATENT"),
            ("concepts", "STRING"),
            ("target", "STRING"),
            ("k", "INT"),
            ("margin", "FLOAT"),
            ("weight", "FLOAT"),
            ("tolerance", "FLOAT"),
            ("reward", "LATENT_REWARD"),
        ],
        ["LATENT", "LATENT", "LATENT_REWARD", "STRING", "STRING", "FLOAT", "IMAGE"],
    ),
    "LatentCLIP_Race": (
        [
            ("reward", "LATENT_REWARD"),
            ("sampler_name", "COMBO"),
            ("candidates", "INT"),
            ("checks", "STRING"),
            ("keep", "FLOAT"),
            ("finish", "INT"),
            ("method", "COMBO"),
            ("strength", "FLOAT"),
        ],
        ["SAMPLER"],
    ),
    "LatentCLIP_RaceKSampler": (
        [
            ("model", "MODEL"),
            ("seed", "INT"),
            ("steps", "INT"),
            ("cfg", "FLOAT"),
            ("sampler_name", "COMBO"),
            ("scheduler", "COMBO"),
            ("positive", "CONDITIONING"),
            ("negative", "CONDITIONING"),
            ("latent_image", "LATENT"),
            ("denoise", "FLOAT"),
            ("reward", "LATENT_REWARD"),
            ("candidates", "INT"),
            ("checks", "STRING"),
            ("keep", "FLOAT"),
            ("finish", "INT"),
        ],
        ["LATENT", "NOISE", "FLOAT", "INT", "FLOAT", "STRING", "IMAGE", "INT", "STRING"],
    ),
    "LatentCLIP_Explore": (
        [
            ("model", "MODEL"),
            ("seed", "INT"),
            ("steps", "INT"),
            ("cfg", "FLOAT"),
            ("sampler_name", "COMBO"),
            ("scheduler", "COMBO"),
            ("positive", "CONDITIONING"),
            ("negative", "CONDITIONING"),
            ("latent_image", "LATENT"),
            ("denoise", "FLOAT"),
            ("latent_clip", "LATENT_CLIP"),
            ("texts", "STRING"),
            ("cells", "INT"),
            ("other_seeds", "STRING"),
            ("x_axis", "COMBO"),
            ("y_axis", "COMBO"),
            ("elsewhere", "STRING"),
            ("custom_contour", "BOOLEAN"),
            ("contour", "FLOAT"),
            ("column", "INT"),
            ("row", "INT"),
            ("vae", "VAE"),
            ("corner_2", "CONDITIONING,LATENT,NOISE"),
            ("corner_3", "CONDITIONING,LATENT,NOISE"),
            ("corner_4", "CONDITIONING,LATENT,NOISE"),
        ],
        ["LATENT", "NOISE", "IMAGE", "FLOAT", "CONDITIONING", "LATENT", "STRING"],
    ),
    "LatentCLIP_Slider": (
        [
            ("model", "MODEL"),
            ("seed", "INT"),
            ("steps", "INT"),
            ("cfg", "FLOAT"),
            ("sampler_name", "COMBO"),
            ("scheduler", "COMBO"),
            ("positive", "CONDITIONING"),
            ("negative", "CONDITIONING"),
            ("latent_image", "LATENT"),
            ("denoise", "FLOAT"),
            ("latent_clip", "LATENT_CLIP"),
            ("less", "STRING"),
            ("more", "STRING"),
            ("positions", "INT"),
            ("low", "FLOAT"),
            ("high", "FLOAT"),
            ("method", "COMBO"),
            ("anchor", "FLOAT"),
            ("iterations", "INT"),
        ],
        ["LATENT", "FLOAT", "IMAGE", "NOISE", "MODEL", "STRING"],
    ),
    "LatentCLIP_TrainTaste": (
        [
            ("latent_clip", "LATENT_CLIP"),
            ("liked", "LATENT"),
            ("disliked", "LATENT"),
            ("weight", "FLOAT"),
            ("save_as", "STRING"),
            ("add_to", "LATENT_REWARD"),
        ],
        ["LATENT_REWARD", "FLOAT", "STRING"],
    ),
    "LatentCLIP_LoadTaste": (
        [
            ("file", "COMBO"),
            ("latent_clip", "LATENT_CLIP"),
            ("weight", "FLOAT"),
            ("add_to", "LATENT_REWARD"),
        ],
        ["LATENT_REWARD", "STRING"],
    ),
    "LatentCLIP_ReNOSampler": (
        [("reward", "LATENT_REWARD"), ("sampler_name", "COMBO"), ("iterations", "INT"), ("lr", "FLOAT")],
        ["SAMPLER"],
    ),
    "LatentCLIP_SearchResult": (
        [("sampler", "SAMPLER"), ("latent", "LATENT")],
        ["NOISE", "FLOAT", "IMAGE", "STRING", "INT", "INT", "STRING", "FLOAT"],
    ),
    "LatentCLIP_ReNO": (
        [
            ("model", "MODEL"),
            ("seed", "INT"),
            ("steps", "INT"),
            ("cfg", "FLOAT"),
            ("sampler_name", "COMBO"),
            ("scheduler", "COMBO"),
            ("positive", "CONDITIONING"),
            ("negative", "CONDITIONING"),
            ("latent_image", "LATENT"),
            ("denoise", "FLOAT"),
            ("reward", "LATENT_REWARD"),
            ("iterations", "INT"),
            ("lr", "FLOAT"),
        ],
        ["LATENT", "LATENT", "NOISE", "FLOAT", "IMAGE", "STRING"],
    ),
    "LatentCLIP_Guidance": (
        [
            ("model", "MODEL"),
            ("reward", "LATENT_REWARD"),
            ("strength", "FLOAT"),
            ("start", "FLOAT"),
            ("end", "FLOAT"),
        ],
        ["MODEL"],
    ),
}


def inputs_of(info: dict) -> list[tuple[str, list]]:
    return [pair for group in ("required", "optional") for pair in info["input"].get(group, {}).items()]


def type_of(spec: list) -> str:
    return "COMBO" if isinstance(spec[0], list) else spec[0]


@pytest.mark.parametrize("node_id", SOCKETS)
def test_sockets_come_in_the_documented_order(host, node_id):
    info = host.object_info[node_id]
    wanted, outputs = SOCKETS[node_id]
    assert [(name, type_of(spec)) for name, spec in inputs_of(info) if name in dict(wanted)] == wanted
    assert info["output"] == outputs


def test_every_node_explains_itself(host):
    ours = {name: info for name, info in host.object_info.items() if name.startswith("LatentCLIP_")}
    differ = sorted(set(ours) ^ set(SOCKETS))
    assert not differ, f"each node of the pack has its row in SOCKETS, and no other; mend it for {differ}"
    for name, info in ours.items():
        assert info["display_name"] and info["description"], name
        assert info["category"].split("/")[0] == "latent-clip", name
        for socket, spec in inputs_of(info):
            assert len(spec) > 1 and len(spec[1].get("tooltip", "")) > 15, f"{name}.{socket} has no tooltip"
        assert all(info["output_tooltips"]), f"{name} has an output without a tooltip"


# A new seed means a new picture here. Anywhere else it would only run the graph behind the node again.
SAMPLES = {"LatentCLIP_ReNO", "LatentCLIP_RaceKSampler", "LatentCLIP_Explore", "LatentCLIP_Slider"}


def test_only_what_samples_gets_a_control_after_generate(host):
    assert host.object_info["KSampler"]["input"]["required"]["seed"][1]["control_after_generate"] is True
    controlled = {}
    for name in SOCKETS:
        for socket, spec in inputs_of(host.object_info[name]):
            named_so = socket in ("seed", "noise_seed")  # the frontend's own rule where nothing is said
            if type_of(spec) in ("INT", "COMBO") and spec[1].get("control_after_generate", named_so):
                controlled.setdefault(name, []).append(socket)
    assert controlled == {name: ["seed"] for name in SAMPLES}


def test_no_nodes_checks_mind_that_everything_is_wired(host, graph):
    """A wired widget reaches them as None: no reason to run again at each queue, nor to refuse the prompt."""
    found = graph.add("Probe_Values", value=graph.add("Probe_WiredChecks")[0])
    (checks,) = host.run(graph).require_ok().values(found)
    assert set(checks) == set(SOCKETS)
    for name, (fingerprints, valid) in checks.items():
        assert len(set(fingerprints)) <= 1 and "nan" not in fingerprints, f"{name}: {fingerprints}"
        assert valid == "True", f"{name}: {valid}"
    asked = {name for name, (fingerprints, _) in checks.items() if fingerprints}
    assert {"LatentCLIP_Load", "LatentCLIP_TrainAdapter", "LatentCLIP_LoadTaste"} <= asked


# Every other widget is for everyday use.
RARE = {
    "size_rule",
    "show",
    "templates",
    "dtype",
    *("optimizer", "regularization", "grad_clip", "candidates", "keep", "stop_on_plateau", "patience"),
    *("stop_at_target", "target"),
    *("checkpointing", "tolerance"),
    *("custom_shift", "own_threshold", "augmentations", "policy_json"),
    *("x_axis", "y_axis", "elsewhere", "custom_contour", "contour"),
    *("repair_iterations", "custom_side", "side", "batch"),
}
RARE_IN_THE_GATE = {"seed", "steps", "cfg", "sampler_name", "scheduler"}  # they serve repair alone
RARE_IN_A_RACE, EVERYDAY_IN_A_RACE = {"method", "strength", "draft_steps"}, {"candidates", "keep"}


WITH_A_TARGET = {"LatentCLIP_CalibrateSafety", "LatentCLIP_Shares", "LatentCLIP_Balance"}


def rare_in(name):
    if name == "LatentCLIP_SafetyGate":
        return RARE | RARE_IN_THE_GATE
    if name == "LatentCLIP_Slider":
        return RARE | {"strength", "end"}
    return (RARE | RARE_IN_A_RACE) - EVERYDAY_IN_A_RACE if "Race" in name else RARE


def test_rare_knobs_are_marked_as_such_and_no_others(host):
    for name in SOCKETS:
        rare = {socket for socket, spec in inputs_of(host.object_info[name]) if spec[1].get("advanced")}
        inputs = {socket for socket, _ in inputs_of(host.object_info[name])}
        wanted = inputs & rare_in(name)
        everyday = {"target"} if name in WITH_A_TARGET else set()
        assert rare == wanted - everyday, f"{name}: what sockets.advanced marks is in RARE, and no other"


def test_tooltips_of_numbers_and_choices_say_the_default_and_fractions_their_range(host):
    for name, info in host.object_info.items():
        if not name.startswith("LatentCLIP_"):
            continue
        for socket, spec in inputs_of(info):
            options, tooltip = spec[1], spec[1]["tooltip"]
            if type_of(spec) in ("INT", "FLOAT") and socket != "seed":
                assert re.search(rf"(?<![\w.]){options['default']:g}\b", tooltip), f"{name}.{socket}: default"
            if type_of(spec) == "FLOAT" and 0 <= options["min"] < options["max"] <= 1:
                assert re.search(r"\b0(\.\d+)? to [01]", tooltip), f"{name}.{socket}: range"
            if type_of(spec) == "BOOLEAN":
                assert re.search(rf"\b{'on' if options['default'] else 'off'}\b.*default", tooltip), (
                    f"{name}.{socket}"
                )
            choices = spec[0] if isinstance(spec[0], list) else options.get("options") or []
            if 1 < len(choices) <= 5 and socket != "file":
                assert all(str(choice) in tooltip for choice in choices), f"{name}.{socket}: choices"


def test_every_node_that_samples_starts_with_the_stock_scheduler_and_one_sampler(host):
    """The stock KSampler has no default written down: the browser shows the first choice."""
    stock = dict(inputs_of(host.object_info["KSampler"]))["scheduler"]
    first = (stock[0] if isinstance(stock[0], list) else stock[1]["options"])[0]
    seen = set()
    for name, info in host.object_info.items():
        for socket, spec in inputs_of(info) if name.startswith("LatentCLIP_") else ():
            if socket in ("scheduler", "sampler_name"):
                assert spec[1]["default"] == {"scheduler": first, "sampler_name": "euler"}[socket], name
                seen.add((name, socket))
    assert {("LatentCLIP_ReNO", "scheduler"), ("LatentCLIP_SafetyGate", "scheduler")} <= seen


FINDABLE = {
    "clip score": "LatentCLIP_Score",
    "best of n": "LatentCLIP_Select",
    "nsfw": "LatentCLIP_SafetyGate",
    "safety checker": "LatentCLIP_SafetyGate",
    "reno": "LatentCLIP_ReNO",
    "concept slider": "LatentCLIP_Slider",
    "aesthetic": "LatentCLIP_TrainTaste",
    "slerp": "LatentCLIP_Explore",
}


def test_newer_hosts_get_search_aliases(host):
    if "search_aliases" not in host.object_info["KSampler"]:
        pytest.skip("this host knows no search aliases")
    for name, info in host.object_info.items():
        if name.startswith("LatentCLIP_"):
            assert info["search_aliases"], name
    for words, name in FINDABLE.items():
        assert words in host.object_info[name]["search_aliases"], words


def test_what_shows_its_result_can_end_a_graph(host):
    for name in ("Score", "Classify", "Heatmap", "Select", "SafetyGate", "CalibrateSafety", "Explore"):
        assert host.object_info[f"LatentCLIP_{name}"]["output_node"] is True, name


def test_the_pack_adds_no_error_to_the_log(host):
    lines = host.log.read_text(errors="replace").splitlines()
    ours = [line for line in lines if "custom_nodes/latent-clip" in line.replace("\\", "/")]
    assert any("seconds" in line for line in ours), "the host did not list the pack among those it imported"
    assert not [line for line in ours if "import" in line.lower() or "fail" in line.lower()]


def test_what_an_api_graph_leaves_out_counts_as_the_schema_says(host, graph):
    """The host hands no default of an optional input on: what the function takes must be the same."""
    shown = graph.add("Probe_Values", value=graph.add("Probe_Defaults")[0])
    (found,) = host.run(graph).require_ok().values(shown)
    differ = {
        f"{node}.{name}": pair
        for node, inputs in found.items()
        for name, pair in inputs.items()
        if pair[0] != pair[1]
    }
    assert "threshold" in found["LatentCLIP_Select"] and "margin" in found["LatentCLIP_Shares"]
    assert not differ, f"schema and function take another default: {differ}"
