r"""How far a learner's gradient is from backpropagation through time, for a network and data of one's own.

For a parameter :math:`\theta` and a window :math:`s` of time let :math:`\hat g_s` be the learner's gradient of
the losses of the steps in :math:`s` alone, and :math:`g_s` that of backpropagation through time (Werbos 1990, Proc.
IEEE 78(10)), both over the same sequence from the same states and without memory of what came before. Then

    cosine_s = \hat g_s \cdot g_s / (|\hat g_s| |g_s|),    norm ratio_s = |\hat g_s| / |g_s|,    \hat g = \sum_s \hat g_s

(the sum holds for g as well). A window says how well credit for *late* losses reaches back over everything before
it, not how well the weights of a part of time are trained. Marschall, Cho & Savin 2020, JMLR 21(135), compare
online algorithms by the same angle.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

from etrax.checks import check_dt, check_kind, check_mask, check_sequences, check_values, whole_number
from etrax.contract.recorder import Recorder, recording
from etrax.engine.pure import Pure, States
from etrax.learners.bptt import BPTT
from etrax.learners.learner import Learner
from etrax.plots import plot_alignment
from etrax.text import Printed, Table, dotted, quantity_text

from .probe import spiking_modules

__all__ = ["GradientReport", "gradient_report", "remarks_on"]

_SATURATED = 0.8  # share of steps with a spike from which a neuron counts as saturated
_REMARKED = 0.1  # share of saturated neurons from which there is something to remark


@dataclasses.dataclass(frozen=True, repr=False)
class GradientReport(Printed):
    """The comparison of :func:`gradient_report`; prints as a table.

    Attributes
    ----------
    parameters : list of str
        Dotted paths, one for each array of a parameter (``syn.comm.weight.bias``): P of them.
    edges : Quantity (S + 1,)
        Where the windows of time begin and end.
    cosine, norm_ratio : array (P,)
        Over the whole sequence; NaN where a gradient is zero.
    cosine_over_time, norm_ratio_over_time : array (S, P)
        The same of the gradients of the losses of each window.
    norms : dict
        ``parameter -> Quantity``, the norm of the gradient of backpropagation through time, in the unit of the parameter.
    rates : dict
        ``population -> Quantity (n,)``, spikes per second of every neuron, mean over the batch.
    remarks : list of str
        Why figures may mean nothing; empty for a healthy network.
    learner : str
        What is compared.
    """

    parameters: list[str]
    edges: u.Quantity
    cosine: np.ndarray
    norm_ratio: np.ndarray
    cosine_over_time: np.ndarray
    norm_ratio_over_time: np.ndarray
    norms: dict[str, Any]
    rates: dict[str, u.Quantity]
    remarks: list[str]
    learner: str

    @property
    def meaningful(self) -> bool:
        """Whether there is nothing to remark."""
        return not self.remarks

    def _parts(self):
        early, late = self.cosine_over_time[0], self.cosine_over_time[-1]
        rows: list[tuple[str, ...]] = [
            ("parameter", "cosine", "norm ratio", "first window", "last window", "norm of BPTT")
        ]
        for i, name in enumerate(self.parameters):
            numbers = (self.cosine[i], self.norm_ratio[i], early[i], late[i])
            rows.append((name, *(f"{number:.3f}" for number in numbers), quantity_text(self.norms[name], ".3g")))
        yield f"{self.learner} against backpropagation through time"
        yield Table(rows, ruled=False)
        for name, rate in self.rates.items():
            hertz = rate.to_decimal(u.Hz)
            yield f"  {name}: {hertz.mean():.1f} spikes per neuron and second, {np.mean(hertz == 0):.0%} silent"
        yield from (f"  NOTE: {remark}" for remark in self.remarks)

    def plot(self):
        """Cosine and norm ratio over time as a `matplotlib.figure.Figure`."""
        return plot_alignment(self)


def gradient_report(
    learner: Any,
    *sequences: Any,
    step_fn: Callable,
    windows: int = 8,
    mask: Any = None,
    chunk_size: int | None = None,
    reset: bool = True,
) -> GradientReport:
    """Compare a learner's gradient with backpropagation through time, per parameter and over time.

    States and traces, and the keys of random numbers, are afterwards what they were.

    Parameters
    ----------
    learner : D_RTRL or a relative
        Compiled.
    *sequences, step_fn, mask, chunk_size
        As in `D_RTRL.etrace_grad`, e.g. ``xs, ys``.
    windows : int
        Number S of windows of (nearly) equal length; no more than there are steps.
    reset : bool
        Whether both start from the initial states of the model; otherwise from the present states, with traces of zero.

    Returns
    -------
    GradientReport
        Print it, or call ``.plot()``.

    Raises
    ------
    ValueError
        If ``windows`` is not a whole number above 0, or for what `D_RTRL.etrace_grad` refuses.

    Examples
    --------
    >>> import brainstate, brainunit as u, etrax
    >>> brainstate.environ.set(dt=1.0 * u.ms)
    >>> import jax.numpy as jnp
    >>> task = etrax.tasks.get("patterns", duration=50.0 * u.ms)
    >>> net = etrax.network.build(task, etrax.tasks.Recipe(n_rec=6, weight_scale=10.0 * u.mS))
    >>> xs, ys, _ = map(jnp.asarray, next(task.train(batch_size=2)))
    >>> learner = etrax.compile(net, etrax.D_RTRL, xs[0], batch_size=2)
    >>> def loss(x, y):
    ...     return jnp.mean((learner(x) - y) ** 2)
    >>> report = etrax.gradient_report(learner, xs, ys, step_fn=loss, windows=2)
    >>> recurrent, readout = report.cosine  # in the order of `report.parameters`
    >>> bool(0.5 < recurrent < 1.0), round(float(readout), 6), report.meaningful
    (True, 1.0, True)
    """
    check_kind(
        "learner",
        learner,
        Learner,
        "a compiled learner",
        "write `etrax.compile(model, etrax.D_RTRL, x0, batch_size=...)`",
    )
    dt = check_dt()
    T = check_sequences(sequences)
    mask = np.asarray(check_mask(mask, T))
    check_values(sequences, mask)
    steps = np.rint(np.linspace(0, T, min(whole_number("windows", windows), T) + 1)).astype(int)
    neurons = spiking_modules(learner.model)
    first = jax.tree.map(lambda leaf: leaf[0], sequences)
    states = _touched(learner, step_fn, first)
    before = states.read(range(len(states.all)))

    def probed(*slices):
        return step_fn(*slices), {name: neuron.get_spike() for name, neuron in neurons.items()}

    try:
        present = {} if reset else {id(s): s.value for s in learner.model.states().values()}
        learner.reset_state()
        for state in states.all:
            if id(state) in present:
                state.value = present[id(state)]
        start = states.read(range(len(states.all)))
        reference = BPTT(learner.model)
        reference.compile_graph(*first)
        ours, theirs = [], []
        for begin, end in itertools.pairwise(steps):
            here = mask * ((np.arange(T) >= begin) & (np.arange(T) < end))
            states.write(start)
            options = dict(step_fn=step_fn, mask=here, chunk_size=chunk_size, reduction="sum", trial=True)
            ours.append(learner.etrace_grad(*sequences, **options))
            states.write(start)
            grads, spikes = reference.etrace_grad(*sequences, step_fn=probed, mask=here, reduction="sum", has_aux=True)
            ours[-1] = {path: g for path, g in ours[-1].items() if path in grads}  # feedback has no counterpart
            theirs.append({path: grads[path] for path in ours[-1]})
    finally:
        states.write(before)
    hat, units = _vectors(ours)
    true, _ = _vectors(theirs)
    names = list(hat)
    total = [(hat[n].sum(axis=0), true[n].sum(axis=0)) for n in names]
    over_time = np.array([[_compare(a, b) for a, b in zip(hat[n], true[n], strict=True)] for n in names])  # (P, S, 2)
    whole = np.array([_compare(a, b) for a, b in total])
    rates = {name: _rates(z, neurons[name].varshape, dt) for name, z in spikes.items()}
    norms = {
        n: u.maybe_decimal(u.Quantity(float(np.linalg.norm(b)), unit=units[n]))
        for n, (_, b) in zip(names, total, strict=True)
    }
    return GradientReport(
        parameters=names,
        edges=steps * dt,
        cosine=whole[:, 0],
        norm_ratio=whole[:, 1],
        cosine_over_time=over_time[:, :, 0].T,
        norm_ratio_over_time=over_time[:, :, 1].T,
        norms=norms,
        rates=rates,
        remarks=remarks_on(rates, dt, names, total),
        learner=type(learner).__name__,
    )


def _touched(learner, step_fn, slices) -> States:
    """All states of the learner and those that a step touches besides, with the keys of random numbers."""
    states = States([*learner.states().values(), *learner.traces.values(), brainstate.random.DEFAULT])

    def step(*slices):
        with recording(Recorder()):
            return step_fn(*slices)

    Pure(step, states).trace(*slices)
    return states


def _vectors(grads: list[dict]) -> tuple[dict[str, np.ndarray], dict[str, u.Unit]]:
    """Gradients of all windows as ``name -> (S, size)``, and their units."""
    found: dict[str, list] = {}
    units = {}
    for window in grads:
        for path, value in window.items():
            leaves = jax.tree_util.tree_leaves_with_path(value, is_leaf=lambda v: isinstance(v, u.Quantity))
            for keys, leaf in leaves:
                name = dotted((*path, *keys))
                units[name] = u.get_unit(leaf)
                found.setdefault(name, []).append(np.asarray(u.get_mantissa(leaf), np.float64).reshape(-1))
    return {name: np.stack(rows) for name, rows in found.items()}, units


def _compare(ours: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Cosine and norm ratio; NaN where they are not defined."""
    a, b = float(np.linalg.norm(ours)), float(np.linalg.norm(true))
    cosine = float(ours @ true) / (a * b) if a > 0 and b > 0 else np.nan
    return cosine, a / b if b > 0 else np.nan


def _rates(spikes, varshape, dt) -> u.Quantity:
    """Spikes per second of every neuron from spikes ``(T, [batch,] *varshape)``."""
    mean = np.asarray(jnp.mean(jnp.asarray(spikes).reshape(-1, math.prod(varshape)), axis=0))
    return u.Quantity(mean / float(u.Quantity(dt).to_decimal(u.second)), unit=u.Hz)


def remarks_on(rates: dict[str, u.Quantity], dt: u.Quantity, names: list[str], total: list[tuple]) -> list[str]:
    """What makes the figures meaningless: neurons that are silent or saturated, gradients that are zero or not finite.

    ``total`` holds the gradients of the learner and of backpropagation for each of the ``names``.
    """
    remarks = []
    seconds = float(u.Quantity(dt).to_decimal(u.second))
    for name, rate in rates.items():
        share = rate.to_decimal(u.Hz) * seconds
        silent, saturated = np.mean(share == 0), np.mean(share >= _SATURATED)
        text = f"{saturated:.0%} of its neurons spike in at least {_SATURATED:.0%} of all steps"
        if silent == 1:
            remarks.append(
                f"{name} is silent: no neuron spikes, so the figures mean nothing; scale the weights or the input up, or "
                "lower the threshold."
            )
        elif silent > 0.9:
            remarks.append(f"{name} is nearly silent: {silent:.0%} of its neurons never spike.")
        # weights of either sign that are too large saturate some neurons and silence the others
        elif saturated > 0.5 or (saturated >= _REMARKED and silent + saturated > 0.9):
            remarks.append(
                f"{name} is saturated: {text} and {silent:.0%} never, so the figures mean nothing; scale the weights or "
                "the input down."
            )
        elif saturated >= _REMARKED:
            remarks.append(
                f"{name} is partly saturated: {text} and {silent:.0%} never, so the figures mean little for them; scale "
                "the weights or the input down."
            )
    for which, side in (("the learner", 0), ("backpropagation", 1)):
        zero = [name for name, pair in zip(names, total, strict=True) if not np.any(pair[side])]
        wild = [name for name, pair in zip(names, total, strict=True) if not np.all(np.isfinite(pair[side]))]
        if zero:
            remarks.append(f"{which} gives a gradient of zero to {', '.join(zero)}: there is nothing to compare.")
        if wild:
            remarks.append(f"{which} gives no finite gradient to {', '.join(wild)}: the loss or the network diverges.")
    return remarks
