"""From a model and the name of a method to a learner that is ready to be called."""

from __future__ import annotations

import dataclasses
from typing import Any

import brainstate
import jax
import jax.numpy as jnp

from etrax.checks import check_dt, check_model, check_seed, whole_number
from etrax.engine.traces.choose import CARRIES
from etrax.text import shown

from .bptt import BPTT
from .d_rtrl import D_RTRL
from .dfa import DFA
from .eprop import EProp
from .learner import Learner, options_in
from .no_trace import NoTrace
from .rtrl import RTRL

__all__ = ["LEARNERS", "compile", "compiled", "options_of"]

LEARNERS: dict[str, type[Learner]] = {
    "d_rtrl": D_RTRL,
    "no_trace": NoTrace,
    "eprop": EProp,
    "dfa": DFA,
    "bptt": BPTT,
    "rtrl": RTRL,
}


def options_of(algorithm: type[Learner] | str, carry: str = "dense", **others: Any) -> frozenset[str]:
    """The options that a learner reads, so that a comparison of methods passes each what concerns it.

    Parameters
    ----------
    algorithm : class or str
        As for :func:`compile`.
    carry : str
        What is chosen of traces, where the learner has a choice; each carry has options of its own.
    **others
        Options that decide on no other.

    Examples
    --------
    >>> import etrax
    >>> sorted(etrax.learners.options_of("eprop", carry="rank1"))
    ['carry', 'decay', 'feedback', 'feedback_scale', 'feedback_seed', 'memory', 'strict']
    """
    names = options_in(chosen_learner(algorithm))
    if carry not in CARRIES:
        raise ValueError(f"`carry` must be one of {', '.join(CARRIES)}, got {carry!r}.")
    if "carry" not in names:
        return frozenset(names)
    fields = {kind: {field.name for field in dataclasses.fields(part)} for kind, part in CARRIES.items()}
    return frozenset(names - set().union(*fields.values()) | fields[carry])


def _said(algorithm: Any) -> str:
    """What was given for a class of learners."""
    made = isinstance(algorithm, brainstate.nn.Module)
    return f"an instance, a {type(algorithm).__name__}" if made else shown(algorithm)


def chosen_learner(algorithm: type[Learner] | str) -> type[Learner]:
    """The class of learners of that name; a ValueError if there is none."""
    if not isinstance(algorithm, str):
        good = isinstance(algorithm, type) and issubclass(algorithm, Learner)
        if not good or algorithm.compile_graph is Learner.compile_graph:  # the interface itself is none
            raise TypeError(
                f"`algorithm` must be a class of learners, e.g. `etrax.D_RTRL`, or its name; got {_said(algorithm)}: write "
                "`etrax.compile(model, etrax.D_RTRL, x0, batch_size=...)`."
            )
        return algorithm
    if algorithm.lower() not in LEARNERS:
        raise ValueError(f"`algorithm` must be one of {', '.join(LEARNERS)}, or a learner class; got {algorithm!r}.")
    return LEARNERS[algorithm.lower()]


def compiled(thing: Learner | brainstate.nn.Module, example: Any) -> Learner:
    """A learner as it is, or a model compiled with `D_RTRL` for inputs like ``example``, called only where one is needed.

    Parameters
    ----------
    thing : Learner or brainstate.nn.Module
        What a user gave.
    example : callable
        ``() -> array``, one step's input with the batch axis in front.
    """
    if isinstance(thing, Learner):
        return thing
    x = example()
    return compile(thing, D_RTRL, x, batch_size=x.shape[0])


def compile(
    model: brainstate.nn.Module,
    algorithm: type[Learner] | str,
    *example_inputs,
    batch_size: int | None = None,
    seed: int | None = None,
    verbose: int = 0,
    **options,
) -> Learner:
    """Initialise a model's states and compile a learner for it.

    Write ``etrax.compile``: a star import, ``from etrax import *``, would put it in the place of Python's own `compile`.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network; its states are created anew.
    algorithm : class or str
        ``etrax.D_RTRL`` (or one of its relatives), or its name.
    *example_inputs
        One step's input, e.g. ``xs[0]`` of shape ``(batch, n_in)``.
    batch_size : int, optional
        Number of independent copies; must be the leading size of ``example_inputs``.
    seed : int, optional
        Seed for the initial states.
    verbose : {0, 1}
        1 prints the report.
    **options
        For the learner's constructor.

    Returns
    -------
    Learner
        A learner ready to be called.

    Raises
    ------
    ValueError
        If the algorithm is unknown, ``dt`` is not set, or the input does not fit the model.
    TypeError
        If an option is given that the learner does not read; it says which one would.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> class Net(brainstate.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.neu = etrax.neurons.LIF(3)
    ...         comm = brainstate.nn.Linear(2, 3, w_init=jnp.ones((2, 3)) * u.mV, b_init=None)
    ...         self.syn = etrax.synapses.DeltaProj(comm=comm, post=self.neu)
    ...     def update(self, x):
    ...         self.syn(x)
    ...         return self.neu()
    >>> learner = etrax.compile(Net(), "d_rtrl", jnp.zeros((4, 2)), batch_size=4)
    >>> learner(jnp.ones((4, 2))).shape
    (4, 3)
    >>> learner.report().trace_bytes  # one number for each sample, input and neuron
    96
    """
    chosen = chosen_learner(algorithm)
    check_model(model)
    check_dt()
    if seed is not None:
        check_seed(seed)
    if not example_inputs:
        raise ValueError(
            "`example_inputs` are missing: give the input of one step, `etrax.compile(model, algorithm, xs[0], ...)`."
        )
    learner = chosen(model, **options)
    if batch_size is not None:
        batch_size = whole_number("batch_size", batch_size)
        for i, leaf in enumerate(jax.tree.leaves(example_inputs)):
            if jnp.shape(leaf)[:1] != (batch_size,):
                raise ValueError(
                    f"`batch_size` is {batch_size} but example input {i} has shape {jnp.shape(leaf)}: the batch axis comes "
                    "first in one step's input; pass `xs[0]` of a time-major sequence and the matching `batch_size`."
                )
    if seed is None:
        brainstate.nn.init_all_states(model, batch_size=batch_size)
    else:
        with brainstate.random.seed_context(seed):
            brainstate.nn.init_all_states(model, batch_size=batch_size)
    learner.compile_graph(*example_inputs)
    if verbose:
        print(learner.report())
    return learner
