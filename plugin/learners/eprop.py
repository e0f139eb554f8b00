"""e-prop: the trace of :class:`D_RTRL`, with an error that is broadcast from the output (`feedback.Feedback`).

See equations (40) to (42) of docs/mathematics.md. Bellec et al. 2020, Nature Communications 11:3625, equations 4, 5 and 28.
"""

from __future__ import annotations

from typing import Any

import brainstate

from etrax.engine.planning import MEMORY

from .feedback import Feedback
from .online import Composition, OnlineLearner, carry_of

__all__ = ["EProp"]


class EProp(OnlineLearner):
    """e-prop with symmetric, random or adaptive feedback from the output.

    The readout (everything between spikes and output that is no projection) keeps its ordinary gradient. For one
    population with symmetric feedback the gradient is that of :class:`D_RTRL`.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network; it returns the output, an array or a pytree of arrays ``([batch,] ...)``. A loss
        may read states too (for the rate of a population, say): that part of its derivative is exact.
    feedback : {'symmetric', 'random', 'adaptive'}
        Where ``B`` comes from. The output weights exist for the populations that the output reads without a
        projection between; with ``'symmetric'`` and ``'adaptive'`` all others get fixed random feedback.
        With ``'adaptive'`` the feedback belongs to :attr:`param_states` and to the gradients, so that an optimizer makes of
        it what it makes of the output weights; give both the same weight decay and they align.
    feedback_seed : int, optional
        Seed of the random feedback; brainstate's random state if left out.
    feedback_scale : float
        Random ``B`` is normal with standard deviation ``feedback_scale / sqrt(neurons)``, in the unit of the output.
    carry, window, tolerance, decay, trace_dtype
        As for :class:`D_RTRL`.
    memory : int
        As for :class:`D_RTRL`.
    strict : bool
        Whether lost credit that the definition does not drop is an error when the model is compiled, in place of a warning.
    name : str, optional
        Name of the learner.

    Attributes
    ----------
    feedback_weights : dict
        ``population -> `` State with ``{output: B}``; populations with symmetric feedback are absent. A model that returns
        one array has the output ``"output"``. Saved and loaded with the learner's other states.

    Raises
    ------
    ValueError
        If ``feedback`` is unknown, or ``feedback_scale`` is not positive.
    TypeError
        If an option is given that this ``carry`` does not read, or that would send the error elsewhere than ``B``.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> task = etrax.tasks.get("patterns", duration=50.0 * u.ms)
    >>> net = etrax.network.build(task, etrax.tasks.Recipe(n_rec=6, weight_scale=10.0 * u.mS))
    >>> xs, ys, _ = map(jnp.asarray, next(task.train(batch_size=2)))
    >>> learner = etrax.compile(net, etrax.EProp, xs[0], batch_size=2, feedback="random", feedback_seed=1)
    >>> learner.feedback_weights["neurons"].value["output"].shape  # (neurons, outputs)
    (6, 3)
    """

    def __init__(  # noqa: PLR0913 - options with a default, each read by one part
        self,
        model: brainstate.nn.Module,
        *,
        feedback: str = "symmetric",
        feedback_seed: int | None = None,
        feedback_scale: float = 1.0,
        carry: str = "dense",
        window: int | None = None,
        tolerance: float | None = None,
        decay: float | None = None,
        trace_dtype: Any = None,
        memory: int = MEMORY,
        strict: bool = False,
        name: str | None = None,
        **unread: Any,
    ):
        kept = carry_of(carry, window=window, tolerance=tolerance, decay=decay, trace_dtype=trace_dtype)
        error = Feedback(feedback, feedback_seed, feedback_scale)
        super().__init__(model, Composition(carry=kept, error=error), memory=memory, strict=strict, name=name, **unread)
        self.feedback = feedback
