"""Real-time recurrent learning with the diagonal of the state-transition Jacobian."""

from __future__ import annotations

from typing import Any

import brainstate

from etrax.checks import check_flag, whole_number
from etrax.engine.planning import MEMORY
from etrax.engine.step import Credit

from .online import Composition, OnlineLearner, carry_of

__all__ = ["D_RTRL"]


class D_RTRL(OnlineLearner):
    r"""Real-time recurrent learning with the diagonal of the state-transition Jacobian.

    .. math::
        \epsilon_t = D_t \epsilon_{t-1} + f_t \otimes x_t, \qquad
        \nabla = \sum_t L_t \cdot \epsilon_t

    ``D_t`` and ``f_t`` are composed from what the model's modules register; ``x_t`` is what
    enters a projection, ``L_t`` the derivative of the loss of step ``t`` with respect to the
    states of that step. Wang et al. 2026, Nature Communications, doi 10.1038/s41467-026-68453-w,
    evaluated in parallel over chunks of time. These are equations (17) and (19) of docs/mathematics.md, which derives them.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network.
    vjp_method : {'single-step', 'multi-step'}
        Inside a chunk: the learning signals of each step alone (D-RTRL), or backpropagation through the steps of
        the chunk with the trace across its border. With chunks of one step the two are the same; with one chunk
        the latter is backpropagation through time.
    hops : int or 'all'
        Inside a chunk, how many times credit goes back where a spike enters a projection at a later step than its own,
        equation (38) of docs/mathematics.md: 0 is D-RTRL; with each hop the gradient is nearer to backpropagation through the
        chunk, which it is with one hop less than the chunk has steps. ``'all'`` is ``vjp_method='multi-step'``. Credit then
        goes through depth, too. Where sums overshoot, the one before they grow is taken: increments that are larger than
        the first sum and have grown twice in a row.
    through_depth : bool
        Inside a chunk, let credit go down through the memory of upper populations, equation (37) of docs/mathematics.md.
        With chunks of one step it makes no difference. With one chunk, and no loops between or within
        populations, the gradient is that of backpropagation through time for a stack of any depth.
    carry : {'dense', 'window', 'rank1', 'none'}
        What is kept of the traces between chunks: all; the factors of the last steps; one outer product
        (ES-D-RTRL, an approximation); nothing. Dense, sparse and element-wise layers have a trace, one value per
        weight and state. Any other layer (not affine in its input, or with far fewer parameters than weights, as a
        convolution) is exact inside a chunk and carried by a window, as `report` says.
    window : int, optional
        Steps kept by a window; taken from ``tolerance`` if left out.
    tolerance : float, optional
        To what share the slowest state must have decayed, at rest, when a step leaves the window; 1e-3 if left out.
    decay : float, optional
        Low-pass factor of ``carry='rank1'`` per step, in [0, 1); 0.95 if left out.
    trace_dtype : dtype, optional
        In which a dense trace is kept between chunks, e.g. ``jnp.bfloat16`` for half the memory; what it is
        computed in does not change.
    memory : int
        Bytes that the steps of a chunk may take where ``chunk_size`` is left out, estimated from the sizes of the
        network; 1 GiB unless given.
    strict : bool
        Whether lost credit that the definition does not drop is an error when the model is compiled, in place of a warning.
    name : str, optional
        Name of the learner.

    Raises
    ------
    ValueError
        If an option has a value that is not allowed.
    TypeError
        If an option is given that this ``carry`` does not read.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> task = etrax.tasks.get("patterns", duration=50.0 * u.ms)
    >>> net = etrax.network.build(task, etrax.tasks.Recipe(n_rec=6, weight_scale=10.0 * u.mS))
    >>> xs, ys, _ = map(jnp.asarray, next(task.train(batch_size=2)))
    >>> for carry in ("dense", "rank1"):
    ...     learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=2, carry=carry)
    ...     print(carry, learner.report().trace_bytes, "bytes")
    dense 3952 bytes
    rank1 404 bytes
    """

    def __init__(  # noqa: PLR0913 - options with a default, each read by one part
        self,
        model: brainstate.nn.Module,
        *,
        hops: int | str = 0,
        vjp_method: str = "single-step",
        through_depth: bool = False,
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
        if vjp_method not in ("single-step", "multi-step"):
            raise ValueError(f"`vjp_method` must be 'single-step' or 'multi-step', got {vjp_method!r}.")
        check_flag("through_depth", through_depth)
        if hops == "all":
            vjp_method, hops = "multi-step", 0
        elif isinstance(hops, str):
            raise ValueError(f"`hops` must be a whole number from 0 on, or 'all', got {hops!r}.")
        hops = whole_number("hops", hops, least=0)
        if hops and vjp_method == "multi-step":
            raise ValueError(
                f"`hops={hops}` with `vjp_method='multi-step'`, which follows all hops of a chunk: leave out one of the two."
            )
        through_depth = through_depth or hops > 0
        if through_depth and vjp_method == "multi-step":
            raise ValueError(
                "`through_depth` with `vjp_method='multi-step'`: backpropagation through the chunk goes through depth already; "
                "leave out one of the two."
            )
        if hops and carry == "rank1":
            raise TypeError(
                f"`hops={hops}` is not read by `carry='rank1'`, whose trace has no adjoint that could go back: use `carry='dense'` or "
                "`carry='window'`."
            )
        if through_depth and carry == "rank1":
            raise ValueError(
                "`through_depth` with `carry='rank1'`: a trace of rank 1 has no adjoint to send down; use `carry='dense'` or "
                "`carry='window'`."
            )
        kept = carry_of(carry, window=window, tolerance=tolerance, decay=decay, trace_dtype=trace_dtype)
        credit = Credit(through_time=vjp_method == "multi-step", through_depth=through_depth, hops=hops)
        super().__init__(
            model, Composition(carry=kept, credit=credit), memory=memory, strict=strict, name=name, **unread
        )
        self.hops = hops
        self.vjp_method = vjp_method
        self.through_depth = through_depth
