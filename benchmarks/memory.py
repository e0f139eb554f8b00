"""Memory of one gradient against the length of the sequence.

Backpropagation keeps every step; D-RTRL keeps one chunk and the trace. For every length the temporary memory of the compiled
program is read (nothing needs to run for it), and, up to --run-limit, the peak of a process that runs it. etrax is also
streamed: the same call again and again with the next chunk of inputs, as a user does who never holds the sequence.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import multiprocessing
import re
import resource
import sys
import time
from pathlib import Path

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from cases import DT, N_OUT, Case, Data, Network, etrax_modules, loss
from common import RESULTS, Compiled, case_from, environment, table, write
from contenders import Unavailable, build, parse

import etrax

WHOLE = ["bptt", "bptt-checkpointed", "etrax"]
PER_CALL = ["etrax", "etrax:carry=window", "etrax:carry=rank1", "etrax:carry=none", "etrax:vjp_method=multi-step"]


def arguments(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--network", default="lif-plain", help="(lif|alif)-(plain|leaky)[-detached]")
    add("--sizes", default="100-128-16", help="inputs-neurons-batch")
    add("--layers", type=int, default=1, help="recurrent layers of that many neurons each")
    add("--lengths", type=int, nargs="+", default=[1_000, 10_000, 100_000, 1_000_000], metavar="T", help="steps")
    add("--chunk", type=int, default=100, metavar="K", help="steps per chunk and per call; divides every length")
    add("--chunks", type=int, nargs="+", default=[64, 128, 256], metavar="K", help="chunk sizes of the table per call")
    add("--whole", nargs="*", default=WHOLE, metavar="C", help="contenders that get the whole sequence")
    add("--per-call", nargs="*", default=PER_CALL, metavar="C", help="contenders of the table per call")
    add("--streamed", nargs="*", default=["etrax"], metavar="C", help="contenders to stream over every length")
    add(
        "--run-limit",
        type=int,
        default=3_000,
        metavar="T",
        help="longest whole sequence that is run, not just compiled",
    )
    add("--seed", type=int, default=0, help="seed of weights and data")
    add("--out", type=Path, default=RESULTS / "memory.json", help="results; the figure goes beside it")
    return parser.parse_args(argv)


# ----------------------------------------------------------------------------------------- in a process of their own


def reset_peak() -> None:
    """Let the peak of the resident set start again, where the system can (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def peak_bytes() -> int:
    """The most memory this process has held, on the accelerator if there is one that counts it."""
    stats = jax.devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"]
    try:
        return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1])
    except (OSError, TypeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def live_bytes() -> int:
    """Bytes of all arrays that JAX holds."""
    return sum(array.nbytes for array in jax.live_arrays())


def spikes(rng, case: Case, steps: int):
    """Random inputs and targets of that many steps."""
    xs = rng.random((steps, case.batch, case.inputs), np.float32) < 0.05
    return jnp.asarray(xs, jnp.float32), jnp.asarray(rng.normal(size=(steps, case.batch, N_OUT)), jnp.float32)


def with_chunk(spec: str, chunk: int) -> str:
    """``etrax:carry=window`` as ``etrax:100:carry=window``."""
    kind, *rest = spec.split(":")
    return ":".join([kind, str(chunk), *rest])


def whole(case: Case, spec: str, steps: int, run: bool, seed: int) -> dict:
    """Temporary memory of the program for a whole sequence and, if asked for, the peak while it runs."""
    brainstate.environ.set(dt=DT * u.ms)
    data, case = Data(case, seed), dataclasses.replace(case, steps=steps)
    shapes = [(steps, case.batch, case.inputs), (steps, case.batch, N_OUT), (steps,)]
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    try:
        program = Compiled(lambda: build(parse(spec, steps), case, data), *args)
    except Unavailable as reason:
        return {"left_out": str(reason)}
    found = {**program.cost, "first_call_s": sum(program.seconds.values())}
    if run:
        args = [*spikes(np.random.default_rng(seed), case, steps), jnp.ones(steps)]
        reset_peak()
        before = peak_bytes()
        program(*args)
        found["peak_growth_bytes"] = peak_bytes() - before
    return found


def streamed(case: Case, spec: str, chunk: int, lengths: list[int], seed: int) -> list[dict]:
    """Peak of this process after ever longer sequences, fed call by call."""
    brainstate.environ.set(dt=DT * u.ms)
    rng, data = np.random.default_rng(seed), Data(case, seed)
    net = Network(etrax_modules(), case, data.weights)
    options = parse(spec, chunk).options
    learner = etrax.compile(net, etrax.D_RTRL, data.xs[0], batch_size=case.batch, **options)

    def step_fn(x, y):
        return loss(learner(x), y)

    def run(steps):
        learner.reset_state()
        total = jax.tree.map(jnp.zeros_like, {path: state.value for path, state in learner.param_states.items()})
        for _ in range(steps // chunk):
            grads = learner.etrace_grad(*spikes(rng, case, chunk), step_fn=step_fn, chunk_size=chunk, reduction="sum")
            total = jax.tree.map(jnp.add, total, grads)
        return jax.block_until_ready(total)

    run(3 * chunk)  # compile
    reset_peak()
    found = []
    for steps in sorted(lengths):
        start = time.perf_counter()
        total = run(steps)
        seconds = time.perf_counter() - start
        size = float(sum(jnp.sum(jnp.abs(leaf)) for leaf in map(u.get_mantissa, jax.tree.leaves(total))))
        if not 0.0 < size < float("inf"):
            raise RuntimeError(f"the gradient over {steps} steps is {size}")
        del total
        found.append({"steps": steps, "peak_bytes": peak_bytes(), "live_bytes": live_bytes(), "seconds": seconds})
    return found


def apart(function, *args):
    """The result of a call in a fresh process, whose peak is its own."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


# ------------------------------------------------------------------------------------------------------- the report


def mega(value) -> str:
    """Bytes as MB."""
    return "-" if value is None else f"{value / 1e6:.2f}"


def measure(case: Case, options: argparse.Namespace) -> dict:
    """All tables of one network, printed as they come."""
    found = {"case": vars(case), "chunk": options.chunk, "whole": [], "per_call": [], "streamed": {}}
    for spec in options.whole:
        named = with_chunk(spec, options.chunk) if spec.startswith("etrax") else spec
        for steps in options.lengths:
            row = apart(whole, case, named, steps, steps <= options.run_limit, options.seed)
            found["whole"].append({"contender": named, "steps": steps, **row})
    keys = ("temp_bytes", "argument_bytes", "peak_growth_bytes")
    print("\nwhole sequence in one call")
    rows = [
        [
            r["contender"],
            f"{r['steps']:,}",
            *(mega(r.get(k)) for k in keys),
            f"{r.get('first_call_s', 0):.1f}",
            r.get("left_out", ""),
        ]
        for r in found["whole"]
    ]
    print(table(rows, ["contender", "steps", "temp MB", "inputs MB", "peak growth MB", "first call s", ""]), flush=True)

    for spec in options.per_call:
        for chunk in dict.fromkeys([options.chunk, *options.chunks]):
            row = apart(whole, case, with_chunk(spec, chunk), chunk, False, options.seed)
            found["per_call"].append({"contender": spec, "chunk": chunk, **row})
    print("\none call of one chunk: what streaming needs, whatever the length")
    rows = [
        [
            r["contender"],
            str(r["chunk"]),
            *(mega(r.get(k)) for k in keys[:2]),
            f"{r.get('first_call_s', 0):.1f}",
            r.get("left_out", ""),
        ]
        for r in found["per_call"]
    ]
    print(table(rows, ["contender", "chunk", "temp MB", "state and inputs MB", "first call s", ""]), flush=True)

    print(f"\nstreamed in calls of {options.chunk} steps")
    rows = []
    for spec in options.streamed:
        found["streamed"][spec] = runs = apart(streamed, case, spec, options.chunk, options.lengths, options.seed)
        for r in runs:
            growth = r["peak_bytes"] - runs[0]["peak_bytes"]
            cells = [f"{r['steps']:,}", mega(r["peak_bytes"]), f"{growth / 1e6:+.2f} MB", mega(r["live_bytes"])]
            rows.append([spec, *cells, f"{1e6 * r['seconds'] / r['steps']:.0f}", ""])
    print(
        table(
            rows,
            ["contender", "steps", "peak of the process MB", "against the shortest", "live arrays MB", "us/step", ""],
        )
    )
    return found


def draw(figure, result: dict) -> None:
    """Memory against the number of steps."""
    figure.set_size_inches(7, 4.5)
    ax = figure.subplots()
    for spec in dict.fromkeys(r["contender"] for r in result["whole"]):
        rows = [r for r in result["whole"] if r["contender"] == spec and "temp_bytes" in r]
        (line,) = ax.plot(
            [r["steps"] for r in rows], [r["temp_bytes"] / 1e6 for r in rows], "o-", label=f"{spec}, whole"
        )
        ran = [r for r in rows if r.get("peak_growth_bytes")]
        sizes = [r["peak_growth_bytes"] / 1e6 for r in ran]
        ax.plot([r["steps"] for r in ran], sizes, "x", color=line.get_color(), label=f"{spec}, measured peak")
    call = {r["contender"]: r.get("temp_bytes") for r in result["per_call"] if r["chunk"] == result["chunk"]}
    for spec, runs in result["streamed"].items():
        if call.get(spec):
            ax.plot([r["steps"] for r in runs], [call[spec] / 1e6] * len(runs), "s--", label=f"{spec}, streamed")
    ax.set(xscale="log", yscale="log", xlabel="steps", ylabel="temporary memory (MB)")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, fontsize="small")


def main(argv=None) -> None:
    """Measure, print tables, write results; exits with 1 where streaming is not flat."""
    options = arguments(argv)
    uneven = [t for t in options.lengths if t % options.chunk]
    if uneven:
        sys.exit(
            f"memory.py: --chunk {options.chunk} does not divide the lengths {uneven}: calls must all have one size."
        )
    try:
        case = case_from(options.network, options.sizes, options.layers, steps=256)
    except (ValueError, argparse.ArgumentTypeError) as error:
        sys.exit(f"memory.py: {error}")
    where = environment()
    print(f"{where['platform']} ({where['device']}), {case.name.rsplit('-', 1)[0]}", flush=True)
    result = measure(case, options)
    write(options.out, {"environment": where, **result}, lambda figure: draw(figure, result))
    flat = True
    for spec, runs in result["streamed"].items():
        growth = runs[-1]["peak_bytes"] / runs[0]["peak_bytes"] - 1
        flat &= growth < 0.05 and runs[-1]["live_bytes"] == runs[0]["live_bytes"]
        print(
            f"{spec}, {runs[-1]['steps']:,} steps against {runs[0]['steps']:,}: peak {100 * growth:+.2f} %, same live arrays: ",
            end="",
        )
        print("flat" if flat else "NOT FLAT")
    sys.exit(0 if flat else 1)


if __name__ == "__main__":
    main()
