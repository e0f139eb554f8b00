r"""e-prop: eligibility traces with an error that is broadcast from the output.

.. math::
    e_{k,t} = \frac{\partial \ell_t}{\partial o_{k,t}}, \qquad
    L_{j,t} = \sum_k B_{jk}\, e_{k,t}, \qquad
    \nabla = \sum_t L_{j,t} \frac{\partial s_{j,t}}{\partial h_{j,t}} \cdot \epsilon_t

:math:`o_t` is what the model returns in step ``t`` (the value of ``learner(x)``), :math:`s_j` what the readout takes from
neuron ``j``: its spike, or the filtered spike of a ``LeakyReadout(pre=)``, whose memory is then in the trace
:math:`\epsilon_t` of :class:`D_RTRL`. Every population gets the error directly, never through another population.
Bellec et al. 2020, Nature Communications 11:3625, equations 4, 5 and 28, where :math:`B` is

* *symmetric*: :math:`\partial o_k / \partial s_j`, the output weights;
* *random*: drawn once (feedback alignment, Lillicrap et al. 2016, Nature Communications 7:13276);
* *adaptive*: drawn once, then changed as the output weights are, by
  :math:`\partial \ell_t / \partial B_{jk} = s_{j,t}\, e_{k,t}`.

Random and adaptive feedback add to the output :math:`\sum_j s_j B_{jk}` and subtract its value: nothing changes but the
derivative.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import brainstate
import brainunit as u
import jax

from etrax.contract.recorder import active
from etrax.engine.graph import Graph
from etrax.engine.population import Path, Population

from .d_rtrl import D_RTRL
from .readers import Readers, flatten_output

__all__ = ["EProp", "FeedbackWeight"]

_MODES = ("symmetric", "random", "adaptive")


class FeedbackWeight(brainstate.LongTermState):
    """Fixed feedback to one population: ``{output: B}``, each ``B`` of shape ``(neurons, size of the output)``."""


class EProp(D_RTRL):
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
    **options
        For :class:`D_RTRL`.

    Attributes
    ----------
    feedback_weights : dict
        ``population -> `` State with ``{output: B}``; populations with symmetric feedback are absent. A model that returns
        one array has the output ``"output"``. Saved and loaded with the learner's other states.

    Raises
    ------
    ValueError
        If ``feedback`` is unknown, ``feedback_scale`` is not positive, or an option sends the error elsewhere than ``B``.
    """

    graph_invisible_attrs = (*D_RTRL.graph_invisible_attrs, "_open", "_readings", "_populations")

    def __init__(
        self,
        model: brainstate.nn.Module,
        *,
        feedback: str = "symmetric",
        feedback_seed: int | None = None,
        feedback_scale: float = 1.0,
        **options,
    ):
        super().__init__(model, **options)
        if feedback not in _MODES:
            raise ValueError(f"`feedback` must be one of {', '.join(_MODES)}, got {feedback!r}.")
        if not feedback_scale > 0:
            raise ValueError(f"`feedback_scale` must be positive, got {feedback_scale!r}.")
        for name, value, free in (
            ("vjp_method", self.vjp_method, "single-step"),
            ("through_depth", self.through_depth, False),
        ):
            if value != free:
                raise ValueError(
                    f"`{name}={value!r}` sends the error through the network, but e-prop broadcasts it from the output: leave the "
                    "option out, or use etrax.D_RTRL."
                )
        self.feedback = feedback
        self.feedback_seed = feedback_seed
        self.feedback_scale = feedback_scale
        self.feedback_weights: dict[str, Any] = {}

    @property
    def param_states(self) -> dict[Path, brainstate.ParamState]:
        """The trainable parameters by path: those of the model, and feedback that adapts."""
        adaptive: dict[Path, brainstate.ParamState] = {
            ("feedback_weights", name): state
            for name, state in self.feedback_weights.items()
            if isinstance(state, brainstate.ParamState)
        }
        return {**super().param_states, **adaptive}

    # -- set-up --------------------------------------------------------------------------

    def _prepare(self, graph: Graph, args: tuple) -> None:
        """Find what the output reads, and draw the feedback."""
        readers = Readers(graph, self.model, args)
        symmetric = self.feedback == "symmetric"
        read = [p for p in graph.populations if any(h.name in readers.states for h in p.hidden)]
        if not symmetric and not readers.parameters:
            raise ValueError(
                f"`feedback={self.feedback!r}` replaces the weights of a readout, but the output of the model has none (no parameter "
                "outside a projection reaches it): return what a layer makes of the spikes, or use `feedback='symmetric'`."
            )
        if symmetric and readers.before_projections and len(graph.populations) > 1:
            raise ValueError(
                f"`feedback='symmetric'` ends the error where a projection begins, so {', '.join(readers.before_projections)} would get no "
                "gradient: make that layer part of the `comm` of the projection, or use another feedback."
            )
        self._open = {id(h.state) for p in read for h in p.hidden} if symmetric else set()
        self._populations = list(graph.populations)
        self._readings: dict[str, tuple[Population, dict]] = {}
        self.feedback_weights = {}
        with (
            brainstate.random.seed_context(self.feedback_seed)
            if self.feedback_seed is not None
            else contextlib.nullcontext()
        ):
            for population in self._populations:
                if symmetric and population in read:
                    continue
                name = population.first(population.neuron)[0].rpartition(".")[0] or "neurons"
                self._readings[name] = population, {key: readers.filters(population, key) for key in readers.outputs}
                kind = brainstate.ParamState if self.feedback == "adaptive" and population in read else FeedbackWeight
                self.feedback_weights[name] = kind(
                    {key: self._draw(population, key, leaf) for key, leaf in readers.outputs.items()}
                )

    def _draw(self, population: Population, key: str, leaf):
        batch = population.batch
        if leaf.shape[: len(batch)] != batch:
            raise ValueError(
                f"the model's output {key!r} has shape {leaf.shape}, but a population has batch {batch}: e-prop sends back the error of "
                "each sample, so the output must begin with the batch axis."
            )
        shape = (population.size, math.prod(leaf.shape[len(batch) :]))
        std = self.feedback_scale / math.sqrt(population.size)
        value = std * brainstate.random.normal(size=shape).astype(u.get_mantissa(leaf).dtype)
        return u.maybe_decimal(u.Quantity(value, unit=u.get_unit(leaf)))

    # -- one step ------------------------------------------------------------------------

    def _output(self, *args) -> Any:
        """One step of the model; the error of what it returns reaches the states by the feedback alone."""
        recorder = active()
        if recorder is None or not recorder.zeros:
            return self.model(*args)
        zeros, recorder.cut = recorder.zeros, self.feedback == "symmetric"
        recorder.zeros = {key: zero for key, zero in zeros.items() if key in self._open}
        recorder.closed = {id(population.neuron) for population, _ in self._readings.values()}
        out = self.model(*args)
        recorder.zeros, recorder.closed = zeros, set()
        for population in self._populations:
            for h in population.hidden:
                if id(h.state) not in self._open:
                    h.state.value = recorder.shifted(h.state, h.state.value)
        return self._with_feedback(out)

    def _with_feedback(self, out):
        leaves, structure = flatten_output(out)
        for name, (population, filters) in self._readings.items():
            weights = self.feedback_weights[name].value
            for key, B in weights.items():
                for s in [part.hidden[state].value for part, state in filters[key]] or [population.neuron.get_spike()]:
                    term = u.get_mantissa(s).reshape(population.rows, population.size) @ B
                    leaves[key] = leaves[key] + (term - jax.lax.stop_gradient(term)).reshape(u.math.shape(leaves[key]))
        return jax.tree.unflatten(structure, list(leaves.values()))
