"""Runs Emulsion and the diffusers variants in turns and writes bench/results/<processor>.md. Started by bench/peers/run."""

import argparse
import datetime
import importlib.metadata
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import time

from plot import plot

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VARIANTS = ["script", "cached", "tuned"]
SMALL = {"quickstart": "The quickstart's model (64 pixels, batch 16)", "base": "The base model (64 pixels, batch 32)"}
DTYPES = ["float32", "bfloat16"]
BUSY = 0.1  # cores that other programs may use
TRIES = 10


def processor():
    text = pathlib.Path("/proc/cpuinfo").read_text()
    found = re.search(r"model name\s*: (.*)", text)
    return found.group(1).strip() if found else os.uname().machine


def busy_seconds():
    """Core-seconds that this machine has worked since it started, other guests of its host included."""
    values = [int(v) for v in pathlib.Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(values) - values[3] - values[4]) / os.sysconf("SC_CLK_TCK")


def own_seconds():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF))


def watched(run):
    """The result of `run`, and how many cores other programs used meanwhile."""
    began, busy, own = time.monotonic(), busy_seconds(), own_seconds()
    result = run()
    others = (busy_seconds() - busy) - (own_seconds() - own)
    return result, max(0.0, others / (time.monotonic() - began))


def undisturbed(run, args):
    """The same, but tries again while other programs disturb, some times."""
    for _ in range(TRIES):
        # Idle beforehand, then the run: a program that only starts meanwhile is seen too.
        others = watched(lambda: time.sleep(2))[1]
        if others <= BUSY or args.anyway:
            result, meanwhile = watched(run)
            others = max(others, meanwhile)
            if others <= BUSY or args.anyway:
                return result, others
        print(f"other programs use {others:.2f} cores; trying again", file=sys.stderr, flush=True)
    sys.exit("compare: other programs keep the machine busy; stop them, or give --anyway")


def emulsion(args, dtype):
    """One run of `emulsion bench step`; the first step is counted from the start of the process, as in the peers."""
    command = [args.binary, "bench", "step", *workload(args), "--dtype", dtype, "--steps", str(args.steps), "--json"]
    began, first, result = time.monotonic(), None, None
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        for line in process.stdout:
            event = json.loads(line)
            if event["event"] == "progress" and first is None:
                first = time.monotonic() - began  # at the latest: the first report may be of a later step
            if event["event"] == "result":
                result = event
    if process.returncode or result is None:
        sys.exit(f"compare: {' '.join(map(str, command))} ended with {process.returncode}")
    return result | {"first_step_seconds": first}


def workload(args):
    """The arguments that say what is trained, the same on both sides."""
    if args.model in SMALL:
        return ["--model", args.model]
    return ["--model", args.model, "--method", args.method, "--size", str(args.size)]


def diffusers(args, variant, dtype):
    script = [HERE / ("diffusers_step.py" if args.model in SMALL else "diffusers_family_step.py"), *workload(args)]
    command = [sys.executable, *script, "--variant", variant, "--dtype", dtype, "--steps", str(args.steps)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        sys.exit(f"compare: {' '.join(map(str, command))}\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure(args):
    """{(who, dtype): results of all rounds}, and the largest load of other programs that was seen."""
    results, busiest = {}, 0.0
    for number in range(args.rounds):
        for dtype in args.dtypes:
            for variant in args.variants:
                turns = [("Emulsion", lambda: emulsion(args, dtype))]
                turns.append((f"diffusers, {variant}", lambda: diffusers(args, variant, dtype)))
                for who, run in turns:
                    result, others = undisturbed(run, args)
                    busiest = max(busiest, others)
                    results.setdefault((who, dtype), []).append(result)
                    print(
                        f"round {number + 1}/{args.rounds}  {dtype:8}  {who:18}  {result['seconds_per_step']:.4f} s/step  "
                        f"first step after {result['first_step_seconds']:.2f} s",
                        file=sys.stderr, flush=True,
                    )  # fmt: skip
    return results, busiest


def middle(runs, key):
    return statistics.median(run[key] for run in runs)


def table(results, args):
    lines = [
        "| numbers | who | s/step, median | of the rounds | times Emulsion's | first step, s | times Emulsion's | peak MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for dtype in args.dtypes:
        ours = results["Emulsion", dtype]
        for who in ["Emulsion", *(f"diffusers, {variant}" for variant in args.variants)]:
            runs = results[who, dtype]
            step, first = middle(runs, "seconds_per_step"), middle(runs, "first_step_seconds")
            spread = [run["seconds_per_step"] for run in runs]
            lines.append(
                f"| {dtype} | {who} | {step:.4f} | {min(spread):.4f} to {max(spread):.4f} | "
                f"{step / middle(ours, 'seconds_per_step'):.2f} | {first:.2f} | "
                f"{first / middle(ours, 'first_step_seconds'):.2f} | {middle(runs, 'peak_memory_bytes') / 1e6:.0f} |"
            )
    return "\n".join(lines)


def versions(binary):
    ours = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=ROOT).stdout
    names = ("torch", "diffusers", "transformers")
    theirs = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    return f"{ours} ({commit.strip() or 'no commit'}); {theirs}; Python {sys.version.split()[0]}"


def title(args):
    if args.model in SMALL:
        return f"{SMALL[args.model]}: U-Net and text encoder train, AdamW, clipping, moving average."
    trains = "a LoRA of rank 16 on the attention's projections" if args.method == "lora" else "the whole U-Net"
    return f"{args.model}, true size, random weights, {args.size} pixels, batch 1: {trains}, AdamW, clipping."


def report(args, equal, results, busiest):
    warning = ""
    if busiest > BUSY:
        warning = f"**Other programs used {busiest:.2f} cores meanwhile: these numbers say little.**\n\n"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"""# Training step: {processor()}

{title(args)}
What is compared, and how to repeat it: [bench/README.md](../README.md).

{warning}{table(results, args)}

- {datetime.date.today()}; {os.cpu_count()} cores, {memory:.0f} GiB; Linux {os.uname().release}
- {versions(args.binary)}
- {equal}
- {args.rounds} rounds of {args.steps} steps, Emulsion and each variant in turns; other programs used at most {busiest:.2f} cores
- Command: `{args.command}`
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--binary", type=pathlib.Path, required=True)
    parser.add_argument("--model", choices=[*SMALL, "sd1", "sdxl"], default="quickstart")
    parser.add_argument("--method", choices=["lora", "diffusion"], default="lora", help="of the large ones")
    parser.add_argument("--size", type=int, default=512, help="pixels, of the large ones")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES)
    parser.add_argument("--anyway", action="store_true", help="measure although the machine is busy")
    parser.add_argument("--output", type=pathlib.Path, help="instead of bench/results/<processor>.md")
    args = parser.parse_args()
    args.command = " ".join(["bench/peers/run", *sys.argv[3:]])

    done = subprocess.run([sys.executable, HERE / "equal_work.py", args.binary], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    equal = done.stdout.strip().splitlines()[-1]
    print(equal, file=sys.stderr)
    results, busiest = measure(args)
    what = {"quickstart": "", "base": " base"}.get(args.model, f" {args.model} {args.method} {args.size}")
    name = re.sub(r"[^a-z0-9]+", "-", (processor() + what).lower()).strip("-")
    output = args.output or ROOT / "bench/results" / f"{name}.md"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(report(args, equal, results, busiest))
    plot(output)
    print(output)


if __name__ == "__main__":
    main()
