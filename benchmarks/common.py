"""What both benchmarks share: compiling with separate times, counting work, describing the machine, writing results."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import brainstate
import jax
import jax.numpy as jnp
import numpy as np
from cases import Case

from etrax import text

__all__ = ["RESULTS", "Called", "Compiled", "case_from", "environment", "flat", "norm", "table", "write"]

RESULTS = Path(__file__).parent / "results"


class Compiled:
    """One XLA program, compiled ahead of time from a function of brainstate's states.

    Parameters
    ----------
    make : callable
        Gives the function; the time it takes counts as set-up.
    *args
        Arguments of the function, arrays or their shapes.

    Attributes
    ----------
    seconds : dict
        ``setup``, ``trace`` (Python to HLO) and ``compile`` (HLO to a program).
    cost : dict
        What does not depend on the machine, see `work`, and what XLA says of its program.
    """

    def __init__(self, make: Callable, *args):
        ticks = [time.perf_counter()]
        fun = make()
        ticks.append(time.perf_counter())
        stateful = brainstate.transform.StatefulFunction(fun)
        stateful.make_jaxpr(*args)
        self.states = [state.value for state in stateful.get_states(*args)]
        traced = jax.jit(stateful.jaxpr_call).trace(self.states, *args)
        lowered = traced.lower()
        ticks.append(time.perf_counter())
        self.program = lowered.compile()
        ticks.append(time.perf_counter())
        self.seconds = dict(zip(("setup", "trace", "compile"), np.diff(ticks).tolist(), strict=True))
        self.cost = {**work(traced.jaxpr), **xla_cost(self.program)}

    def __call__(self, *args):
        """Run from the initial states and wait for all of it, the last states and traces included."""
        return jax.block_until_ready(self.program(self.states, *args))[1]

    def timed(self, *args) -> float:
        """Seconds of one run."""
        start = time.perf_counter()
        self(*args)
        return time.perf_counter() - start


class Called:
    """The interface of `Compiled` for a function that is called as it is, with its Python and its own compilation.

    Parameters
    ----------
    make, *args
        As in `Compiled`; the first call counts as ``trace``.
    """

    def __init__(self, make: Callable, *args):
        start = time.perf_counter()
        self.fun = make()
        setup = time.perf_counter() - start
        self.seconds, self.cost = {"setup": setup, "trace": self.timed(*args), "compile": 0.0}, {}

    def __call__(self, *args):
        """Call, and wait for the result."""
        return jax.block_until_ready(self.fun(*args))

    timed = Compiled.timed


def xla_cost(program) -> dict:
    """XLA's own figures; it counts the body of a loop once, however often the loop runs."""
    cost = program.cost_analysis() or {}
    cost = cost[0] if isinstance(cost, list) else cost
    memory = program.memory_analysis()
    found = {"xla_flops": cost.get("flops"), "xla_bytes": cost.get("bytes accessed")}
    for name in ("temp", "argument", "output"):
        found[f"{name}_bytes"] = getattr(memory, f"{name}_size_in_bytes", None)
    return found


_LAYOUT = (
    "reshape",
    "broadcast",
    "slice",
    "dynamic",
    "scatter",
    "squeeze",
    "transpose",
    "concatenate",
    "convert",
    "copy",
    "iota",
    "stop",
    "pad",
)


def work(jaxpr) -> dict[str, float]:
    """Work that the program asks for, loops multiplied out: of matrix products (flops) and element by element (results).

    A ``while`` loop counts once and a conditional as its costliest branch.
    """
    total = {"product_flops": 0.0, "elementwise": 0.0}

    def add(jaxpr, times, total):
        for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
            inner = [p for v in eqn.params.values() for p in (v if isinstance(v, (tuple, list)) else (v,))]
            inner = [p for p in inner if hasattr(p, "eqns") or hasattr(getattr(p, "jaxpr", None), "eqns")]
            name, out = (
                eqn.primitive.name,
                sum(math.prod(v.aval.shape) for v in eqn.outvars if hasattr(v.aval, "shape")),
            )
            if name == "dot_general":
                (contracted, _), _ = eqn.params["dimension_numbers"]
                depth = math.prod(eqn.invars[0].aval.shape[i] for i in contracted)
                total["product_flops"] += times * 2.0 * out * depth
            elif name == "cond":
                branches = [{"product_flops": 0.0, "elementwise": 0.0} for _ in inner]
                for branch, sub in zip(branches, inner, strict=True):
                    add(sub, times, branch)
                for key in total:
                    total[key] += max(branch[key] for branch in branches)
            elif inner:
                for sub in inner:
                    add(sub, times * (eqn.params["length"] if name == "scan" else 1), total)
            elif not name.startswith(_LAYOUT):
                total["elementwise"] += times * out

    add(jaxpr, 1, total)
    return total


def flat(grads: dict) -> dict[str, np.ndarray]:
    """Gradients as float64 vectors by parameter."""
    return {k: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(g)]).astype(float) for k, g in grads.items()}


def norm(vectors) -> float:
    """Euclidean norm of one vector or of several in a dict."""
    return float(np.linalg.norm(np.concatenate(list(vectors.values())) if isinstance(vectors, dict) else vectors))


def case_from(text: str, sizes: str, layers: int, steps: int | None = None, **options) -> Case:
    """``lif-plain`` (or ``alif-leaky-detached``, ...) and ``100-128-16-256`` as a `Case`."""
    neuron, readout, *detached = text.split("-")
    if neuron not in ("lif", "alif") or readout not in ("plain", "leaky") or detached not in ([], ["detached"]):
        raise argparse.ArgumentTypeError(f"{text!r} is not (lif|alif)-(plain|leaky)[-detached].")
    numbers = [int(part) for part in sizes.split("-")]
    if len(numbers) + (steps is not None) != 4:
        raise argparse.ArgumentTypeError(f"{sizes!r} is not inputs-neurons-batch{'' if steps else '-steps'}.")
    return Case(
        neuron, readout, *numbers, *([] if steps is None else [steps]), layers=layers, detach=bool(detached), **options
    )


def environment() -> dict:
    """The device and the versions that the numbers belong to."""
    device = jax.devices()[0]
    names = ("jax", "jaxlib", "numpy", "brainstate", "brainunit", "braintools", "etrax", "brainpy", "braintrace")
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "platform": device.platform,
        "device": device.device_kind,
        "devices": len(jax.devices()),
        "cpu_cores": cores,
        "machine": f"{platform.system()} {platform.machine()}",
        "precision": str(jnp.zeros(()).dtype),
        "date": time.strftime("%Y-%m-%d"),
        "versions": versions,
    }


def table(rows: list[list[str]], header: list[str]) -> str:
    """Text columns, the first and the last aligned left."""
    return "\n".join(text.table([header, *rows], ruled=False, indent=0, right=range(1, len(header) - 1)))


def write(path: Path, content: dict, draw: Callable) -> None:
    """Write results as JSON and beside it, under the same name, the figure that ``draw(figure)`` fills."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    figure = plt.figure(layout="constrained")
    draw(figure)
    figure.savefig(path.with_suffix(".png"), dpi=150)
    plt.close(figure)
    print(f"wrote {path.name} and {path.with_suffix('.png').name}")
