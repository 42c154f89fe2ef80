"""`python -m benchmarks [SECTION ...]`: run sections, in the order given, and write them into RESULTS.md.

A long section that was stopped goes on where it was, as long as neither code nor weights have changed.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import torch

from .harness import RESULTS, Report, Run, Skipped, machine
from .parts import Parts

# section -> (module, function, title); in the order of the results file
SECTIONS = {
    "oracle": ("world", "oracle", "Mini world: the oracle and the generator"),
    "retrieval": ("world", "retrieval", "Mini world: retrieval on test captions"),
    "unsafe": ("world", "unsafe", "Mini world: the unsafe concept against its look-alikes"),
    "sizes": ("sizes", "sizes", "Mini world: other sizes than the native one"),
    "reno": ("reno", "gain", "Mini world: what ReNO gains"),
    "hacking": ("reno", "hacking", "Mini world: reward and truth over 200 iterations"),
    "guidance": ("guidance", "guidance", "Mini world: guidance on the many-step schedule"),
    "race": ("race", "race_section", "Mini world: races, many candidates for few passes"),
    "variety": ("variety", "variety", "Mini world: batches driven apart by a variety reward"),
    "shares": ("shares", "shares", "Mini world: shares of concepts, chosen and steered"),
    "sliders": ("sliders", "sliders", "Mini world: sliders, and what they leave as it was"),
    "safety-detection": ("safety", "detection", "Mini world: detecting the unsafe concept"),
    "safety-rates": ("safety_rates", "rates", "Mini world: unsafe rate and what it costs harmless prompts"),
    "safety-savings": (
        "safety_runs",
        "savings",
        "Mini world: steps saved by a stopping guard, cost of judging",
    ),
    "safety-attack": ("safety_runs", "attack", "Mini world: an optimiser against the gate"),
    "adapter": ("adapter", "adapter", "Mini world: another VAE's latents through an adapter"),
    "taste": ("taste", "taste", "Mini world: own taste from few examples"),
    "adaptation": ("adaptation", "adaptation", "Mini world: a pixel CLIP made to read latents"),
    "real-sizes": ("real_maps", "sizes", "Real pictures: SDXL's latents at other sizes"),
    "real-adapters": ("real_maps", "adapters", "Real pictures: other models' latents as SDXL's"),
    "real-guards": ("real_guards", "guards", "Real pictures: false alarms of the checks, and what they tell"),
    "real-probe": ("real_probe", "probe", "Real pictures: what a small Latent-CLIP sees, at other sizes too"),
    "real-weapons": ("real_weapons", "weapons", "Real pictures: what everyday texts are worth to a policy"),
    "bulk": ("bulk", "bulk", "Bulk work over tar shards: rate, workers, memory"),
    "cost": ("cost", "cost", "Cost of a score at real shapes, 512 px, random weights"),
    "overhead": ("cost", "overhead", "Overhead over the bare transformer, and batches"),
    "files": ("files", "files", "Load time and peak memory of the file kinds"),
    "import": ("imports", "imports", "What the pack adds to the start of ComfyUI"),
    "reno-cost": (
        "reno_cost",
        "reno_cost",
        "Cost of one ReNO iteration at SDXL-Turbo shapes, 512 px, random weights",
    ),
    "full-size": ("full_size", "full_size", "SDXL at full size in a real ComfyUI, random weights"),
}


# Measured on a GPU too, and written beside what the CPU gave
ON_DEVICE = ("cost", "overhead", "reno-cost", "full-size")


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "sections", nargs="*", metavar="SECTION", help=f"some of: {', '.join(SECTIONS)}; default all"
    )
    parser.add_argument(
        "--device",
        default="cpu",
        help="torch device of the cost sections; a GPU's results stand beside the CPU's",
    )
    parser.add_argument("--threads", type=int, help="torch threads; default: torch's own choice")
    parser.add_argument(
        "--jobs", type=int, default=1, help="sections at once, each in a process with one thread"
    )
    parser.add_argument(
        "--tiny", action="store_true", help="a quick trial of the code; writes to a temporary file"
    )
    parser.add_argument(
        "--mark", action="store_true", help="measure nothing; say which sections are older than their code"
    )
    parser.add_argument("--output", type=Path, help="results file; default benchmarks/RESULTS.md")
    arguments = parser.parse_args()
    if arguments.mark:
        Report(arguments.output or RESULTS).mark()
        return
    unknown = [name for name in arguments.sections if name not in SECTIONS]
    if unknown:
        parser.error(f"no section {', '.join(unknown)}; there are: {', '.join(SECTIONS)}")
    names = arguments.sections or list(SECTIONS)
    if arguments.jobs > 1:
        sys.exit(run_beside_each_other(names, arguments))
    logging.basicConfig(level=logging.WARNING)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    trial = Path(tempfile.gettempdir()) / "latent-clip-trial-results.md"
    order = tuple(part for name in SECTIONS for part in (name, f"{name}-cuda"))
    report = Report(arguments.output or (trial if arguments.tiny else RESULTS), order)
    run = Run(device=arguments.device, tiny=arguments.tiny)
    written = [run_section(name, run, report) for name in names]
    print(f"written to {report.path}" if any(written) else "nothing was written")


def run_beside_each_other(names: list[str], arguments: argparse.Namespace) -> int:
    """Every section in a process of its own, some at a time; 1 if any of them failed."""
    command = [sys.executable, "-m", "benchmarks", "--device", arguments.device, "--threads", "1"]
    command += ["--tiny"] * arguments.tiny
    command += ["--output", str(arguments.output)] if arguments.output else []
    with ThreadPoolExecutor(arguments.jobs) as pool:
        codes = list(pool.map(lambda name: subprocess.call([*command, name]), names))
    for name in (name for name, code in zip(names, codes, strict=True) if code):
        print(f"{name} FAILED")
    return int(any(codes))


def run_section(name: str, run: Run, report: Report) -> bool:
    """Run one section and put it into the report. -> whether it was not skipped."""
    module, function, title = SECTIONS[name]
    print(f"{name}: {title}", flush=True)
    if (kind := torch.device(run.device).type) != "cpu":
        if name not in ON_DEVICE:
            print("  skipped: it computes on the CPU", flush=True)
            return False
        name, title = f"{name}-{kind}", f"{title}, on a GPU"
    parts = None if run.tiny else Parts(name)
    torch.manual_seed(run.seed)
    note, start = machine(run.device), time.perf_counter()
    section = getattr(importlib.import_module(f".{module}", __package__), function)
    try:
        body = section(replace(run, parts=parts))
    except Skipped as reason:
        print(f"  skipped: {reason}", flush=True)
        return False
    took = time.perf_counter() - start
    print(f"  {took:.0f} s", flush=True)
    trial = "TRIAL RUN, not to be reported; " if run.tiny else ""
    earlier = f", with {parts.reused} parts of an earlier run" if parts is not None and parts.reused else ""
    report.write(name, title, body, f"{trial}{note}; the section took {took:.0f} s{earlier}")
    if parts is not None:
        parts.forget()
    return True


if __name__ == "__main__":
    main()
