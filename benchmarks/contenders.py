"""Everything that is measured, each as one function ``(xs, ys, mask) -> (gradients, losses)`` of the same network.

A contender is named ``name[:option]...``, where an option is a chunk size (a number, or ``T`` for the whole sequence)
or ``key=value`` for the constructor of the learner, e.g. ``etrax:128:carry=window``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import brainstate
import jax.numpy as jnp
from cases import Case, Data, Network, Reference, etrax_modules, loss, peer_modules

import etrax

__all__ = ["NAMES", "Contender", "Unavailable", "build", "default", "parse"]


class Unavailable(Exception):
    """A contender that is not installed here, or does not take these options."""


@dataclasses.dataclass(frozen=True)
class Contender:
    """What is measured.

    Parameters
    ----------
    spec : str
        As given, e.g. ``etrax:128``.
    kind : str
        One of `NAMES`.
    chunk : int or None
        Steps per chunk, where it has one.
    options : dict
        For the constructor of the learner.
    estimator : str
        'bptt' and 'd-rtrl' must agree with their reference, everything else is only compared.
    note : str
        What to know about the estimator.
    """

    spec: str
    kind: str
    chunk: int | None
    options: dict[str, Any]
    estimator: str
    note: str = ""


TWICE = "counts the path g -> V twice"
NAMES = {
    "forward": "simulation and loss only, one jitted loop",
    "bptt": "backpropagation through time, one jitted scan",
    "bptt-checkpointed": "the same with brainstate.transform.checkpointed_for_loop",
    "per-step": "D-RTRL step by step, dense traces in one jitted scan (tests/oracle.py)",
    "etrax": "etrax.D_RTRL with a chunk size",
    "etrax-stream": "the same with the trace of before read and the one after kept, as for a stream without end",
    "etrax-called": "the same as a user calls it: Python, checks and reset of the states included",
    "braintrace-single-step": "braintrace.D_RTRL, one step per call",
    "braintrace-multi-step": "braintrace.D_RTRL(vjp_method='multi-step') with a chunk size",
    "braintrace-es-d-rtrl": "braintrace.ES_D_RTRL, one step per call",
}
OWN = ("etrax", "etrax-stream", "etrax-called")


def parse(spec: str, steps: int) -> Contender:
    """The contender of that name; a ValueError says what is wrong with it."""
    kind, *parts = spec.split(":")
    if kind not in NAMES:
        raise ValueError(f"there is no contender {kind!r}; there are: {', '.join(NAMES)}.")
    chunk, options = None, {}
    for part in parts:
        key, equals, value = part.partition("=")
        if equals:
            options[key] = float(value) if value.replace(".", "", 1).isdigit() else value
        elif part == "T" or part.isdigit():
            chunk = steps if part == "T" else int(part)
        else:
            raise ValueError(f"{part!r} in {spec!r} is neither a chunk size nor key=value.")
    estimator, note = "other", ""
    if kind in ("bptt", "bptt-checkpointed"):
        estimator = "bptt"
    elif kind == "forward":
        estimator = "none"
    elif kind == "per-step" or (kind in OWN and options in ({}, {"carry": "dense"})):
        estimator = "d-rtrl"
    elif kind in OWN:
        note = ", ".join(f"{k}={v}" for k, v in options.items())
        if options == {"vjp_method": "multi-step"} and chunk == steps:
            estimator = "bptt"
    elif kind.startswith("braintrace"):
        note = TWICE if kind == "braintrace-single-step" else {"m": "BPTT in the window", "e": "rank one"}[kind[11]]
    return Contender(spec, kind, chunk, options, estimator, note)


def default(chunks: list[str]) -> list[str]:
    """The contenders of a full comparison."""
    middle = chunks[len(chunks) // 3]
    return [
        *("forward", "bptt", "bptt-checkpointed", "per-step", "etrax:1"),
        *(f"etrax:{k}" for k in chunks),
        *(f"etrax-stream:{k}" for k in chunks),
        f"etrax-called:{middle}",
        *(f"etrax:{k}:vjp_method=multi-step" for k in chunks),
        *(f"etrax:{middle}:carry={c}" for c in ("window", "rank1", "none")),
        "braintrace-single-step",
        *(f"braintrace-multi-step:{k}" for k in chunks),
        "braintrace-es-d-rtrl",
    ]


def build(contender: Contender, case: Case, data: Data) -> Callable:
    """The function to compile, made from a fresh network.

    Raises
    ------
    Unavailable
        If the contender is not installed here or refuses the options or the network.
    """
    if contender.kind.startswith("braintrace"):
        return _peer(contender, case, data)
    if contender.kind == "per-step":
        reference = Reference(case)
        weights = {name: brainstate.ParamState(value) for name, value in data.weights.items()}
        return lambda xs, ys, mask: reference.gradient({k: s.value for k, s in weights.items()}, xs, ys, mask)
    net = Network(etrax_modules(), case, data.weights)
    if contender.kind == "forward":
        return lambda xs, ys, mask: ({}, brainstate.transform.for_loop(lambda x, y: loss(net(x), y), xs, ys))
    if contender.kind == "bptt-checkpointed":

        def total(xs, ys, mask):
            losses = brainstate.transform.checkpointed_for_loop(lambda x, y: loss(net(x), y), xs, ys)
            return jnp.sum(losses * mask) / jnp.maximum(jnp.sum(mask), 1.0), losses

        return brainstate.transform.grad(total, net.parameters(), has_aux=True)
    algorithm = etrax.BPTT if contender.kind == "bptt" else etrax.D_RTRL
    try:
        learner = etrax.compile(net, algorithm, data.xs[0], batch_size=case.batch, **contender.options)
    except (TypeError, ValueError, NotImplementedError) as error:
        if not contender.options:
            raise
        raise Unavailable(str(error).splitlines()[0]) from error
    weights = net.parameters()

    def step_fn(x, y):
        return loss(learner(x), y)

    def run(xs, ys, mask):
        if contender.kind == "etrax-called":
            learner.reset_state()
        return learner.etrace_grad(
            xs,
            ys,
            step_fn=step_fn,
            mask=mask,
            chunk_size=contender.chunk,
            weights=weights,
            trial=contender.kind != "etrax-stream",
            return_value=True,
        )

    return run


def _peer(contender: Contender, case: Case, data: Data) -> Callable:
    try:
        import braintrace

        lib = peer_modules()
    except ImportError as error:
        raise Unavailable(f"not installed ({error}): pip install '.[peers]'") from error
    options = dict(contender.options)
    chunk = contender.chunk
    if contender.kind == "braintrace-multi-step":
        options["vjp_method"] = "multi-step"
        chunk = chunk or case.steps
        if case.steps % chunk:
            raise Unavailable(f"its windows of {chunk} steps do not divide {case.steps}")
    elif contender.kind == "braintrace-es-d-rtrl":
        options.setdefault("decay_or_rank", 0.9)
    algorithm = braintrace.ES_D_RTRL if contender.kind == "braintrace-es-d-rtrl" else braintrace.D_RTRL
    try:
        net = Network(lib, case, data.weights)
        learner = braintrace.compile(net, algorithm, data.xs[0], batch_size=case.batch, **options)
    except (TypeError, ValueError, NotImplementedError) as error:
        raise Unavailable(str(error).splitlines()[0]) from error
    weights = net.parameters()

    def step_fn(x, y):
        if chunk is None or chunk == 1:
            return loss(learner(x), y)
        return jnp.mean((learner(braintrace.MultiStepData(x)) - y) ** 2, axis=(1, 2))

    return lambda xs, ys, mask: learner.etrace_grad(
        xs, ys, step_fn=step_fn, mask=mask, chunk_size=chunk, weights=weights, return_value=True
    )
