"""From a model and the name of a method to a learner that is ready to be called."""

from __future__ import annotations

from typing import Any

import brainstate
import jax
import jax.numpy as jnp

from etrax.checks import check_dt

from .bptt import BPTT
from .d_rtrl import D_RTRL
from .eprop import EProp
from .no_trace import NoTrace
from .rtrl import RTRL

__all__ = ["LEARNERS", "compile"]

LEARNERS: dict[str, Any] = {"d_rtrl": D_RTRL, "no_trace": NoTrace, "eprop": EProp, "bptt": BPTT, "rtrl": RTRL}


def compile(
    model: brainstate.nn.Module,
    algorithm: type[D_RTRL] | str,
    *example_inputs,
    batch_size: int | None = None,
    seed: int | None = None,
    verbose: int = 0,
    **options,
) -> D_RTRL:
    """Initialise a model's states and compile a learner for it.

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
    D_RTRL
        A learner ready to be called.

    Raises
    ------
    ValueError
        If the algorithm is unknown, ``dt`` is not set, or the input does not fit the model.
    """
    chosen: Any = algorithm
    if isinstance(algorithm, str):
        chosen = LEARNERS.get(algorithm.lower())
        if chosen is None:
            raise ValueError(
                f"`algorithm` must be one of {', '.join(LEARNERS)}, or a learner class; got {algorithm!r}."
            )
    check_dt()
    learner = chosen(model, **options)
    if batch_size is not None:
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
