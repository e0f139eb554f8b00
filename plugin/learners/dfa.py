"""Direct feedback alignment: the error of the output through fixed random weights, and no memory of the past.

See equation (43) of docs/mathematics.md. Nøkland 2016, Advances in Neural Information Processing Systems 29 (arXiv 1609.01596), equation 7, in every step of a
spiking network: e-prop with random feedback, :class:`EProp`, with ``D = 0``. What a trace is worth to e-prop is what it
has over this.
"""

from __future__ import annotations

from typing import Any

import brainstate

from etrax.engine.planning import MEMORY
from etrax.engine.traces.choose import NoCarry

from .feedback import Feedback
from .online import Composition, OnlineLearner

__all__ = ["DFA"]


class DFA(OnlineLearner):
    """Direct feedback alignment.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network, as for :class:`EProp`.
    feedback_seed : int, optional
        Seed of the random feedback; brainstate's random state if left out.
    feedback_scale : float
        Random ``B`` is normal with standard deviation ``feedback_scale / sqrt(neurons)``, in the unit of the output.
    memory : int
        As for :class:`D_RTRL`.
    strict : bool
        Whether lost credit that the definition does not drop is an error when the model is compiled, in place of a warning.
    name : str, optional
        Name of the learner.

    Raises
    ------
    ValueError
        If ``feedback_scale`` is not positive.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> task = etrax.tasks.get("patterns", duration=50.0 * u.ms)
    >>> net = etrax.network.build(task, etrax.tasks.Recipe(n_rec=6, weight_scale=10.0 * u.mS))
    >>> xs, ys, _ = map(jnp.asarray, next(task.train(batch_size=2)))
    >>> learner = etrax.compile(net, etrax.DFA, xs[0], batch_size=2, feedback_seed=1)
    >>> learner.report().trace_bytes  # no memory of the past
    0
    """

    def __init__(
        self,
        model: brainstate.nn.Module,
        *,
        feedback_seed: int | None = None,
        feedback_scale: float = 1.0,
        memory: int = MEMORY,
        strict: bool = False,
        name: str | None = None,
        **unread: Any,
    ):
        error = Feedback("random", feedback_seed, feedback_scale)
        super().__init__(
            model,
            Composition(carry=NoCarry(), error=error, diagonal=False),
            memory=memory,
            strict=strict,
            name=name,
            **unread,
        )
