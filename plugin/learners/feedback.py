"""An error that is broadcast from the output, by weights ``B`` of its own or by those of the readout.

See equations (40) to (42) of docs/mathematics.md. What a readout takes from a neuron is its spike, or the filtered spike of a
``LeakyReadout(pre=)``, whose memory is then in its trace. Every population gets the error directly, never through another
population. ``B`` is

* *symmetric*: the output weights;
* *random*: drawn once (feedback alignment, Lillicrap et al. 2016, Nature Communications 7:13276);
* *adaptive*: drawn once, then changed as the output weights are.

Random and adaptive feedback add to the output what the readout takes, times ``B``, and subtract its value: nothing changes
but the derivative.
"""

from __future__ import annotations

import contextlib
import math
from typing import Any

import brainstate
import brainunit as u
import jax

from etrax.checks import check_seed, positive
from etrax.engine.graph import Graph
from etrax.engine.population import Population
from etrax.engine.step import Routes

from .error import Error
from .readers import Readers, flatten_output

__all__ = ["FEEDBACK", "Feedback", "FeedbackWeight"]

FEEDBACK = ("symmetric", "random", "adaptive")


class FeedbackWeight(brainstate.LongTermState):
    """Fixed feedback to one population: ``{output: B}``, each ``B`` of shape ``(neurons, size of the output)``."""


class Feedback(Error):
    """The error of the output, sent to every population.

    Parameters
    ----------
    mode : {'symmetric', 'random', 'adaptive'}
        Where ``B`` comes from; with ``'symmetric'`` and ``'adaptive'`` populations that the output does not read get
        fixed random feedback.
    seed : int, optional
        Seed of the random feedback; brainstate's random state if left out.
    scale : float
        Random ``B`` is normal with standard deviation ``scale / sqrt(neurons)``, in the unit of the output.

    Raises
    ------
    ValueError
        If ``mode`` is unknown, or ``scale`` is not positive.
    """

    def __init__(self, mode: str = "symmetric", seed: int | None = None, scale: float = 1.0):
        if mode not in FEEDBACK:
            raise ValueError(f"`feedback` must be one of {', '.join(FEEDBACK)}, got {mode!r}.")
        positive("feedback_scale", scale)
        if seed is not None:
            check_seed(seed, "feedback_seed")
        self.mode, self.seed, self.scale = mode, seed, scale
        self._routes = Routes()
        self._readings: dict[str, tuple[Population, dict]] = {}

    @property
    def routes(self) -> Routes:
        """See `Error.routes`: only populations that the output reads get theirs within the step, if it is symmetric."""
        return self._routes

    def prepare(self, graph: Graph, args: tuple) -> dict[str, Any]:
        """See `Error.prepare`: find what the output reads, and draw the feedback."""
        readers = Readers(graph, args)
        symmetric = self.mode == "symmetric"
        read = [p for p in graph.populations if any(h.name in readers.states for h in p.hidden)]
        self._check(readers, graph)
        weights: dict[str, Any] = {}
        self._readings = {}
        drawing = contextlib.nullcontext() if self.seed is None else brainstate.random.seed_context(self.seed)
        with drawing:
            for population in graph.populations:
                if symmetric and population in read:
                    continue
                name = population.first(population.neuron)[0].rpartition(".")[0] or "neurons"
                self._readings[name] = population, {key: readers.filters(population, key) for key in readers.outputs}
                kind = brainstate.ParamState if self.mode == "adaptive" and population in read else FeedbackWeight
                weights[name] = kind({key: self._draw(population, key, leaf) for key, leaf in readers.outputs.items()})
        opened = {id(h.state) for p in read for h in p.hidden} if symmetric else set()
        self._routes = Routes(
            late=frozenset(id(h.state) for h in graph.hidden) - opened,
            closed=frozenset(id(population.neuron) for population, _ in self._readings.values()),
            cut=symmetric,
        )
        return weights

    def _check(self, readers: Readers, graph: Graph) -> None:
        if self.mode != "symmetric" and not readers.parameters:
            raise ValueError(
                f"`feedback={self.mode!r}` replaces the weights of a readout, but the output of the model has none (no parameter "
                "outside a projection reaches it): return what a layer makes of the spikes, or use `feedback='symmetric'`."
            )
        if self.mode == "symmetric" and readers.before_projections and len(graph.populations) > 1:
            raise ValueError(
                f"`feedback='symmetric'` ends the error where a projection begins, so {', '.join(readers.before_projections)} would get no "
                "gradient: make that layer part of the `comm` of the projection, or use another feedback."
            )

    def _draw(self, population: Population, key: str, leaf):
        batch = population.batch
        if leaf.shape[: len(batch)] != batch:
            raise ValueError(
                f"the model's output {key!r} has shape {leaf.shape}, but a population has batch {batch}: e-prop sends back the error of "
                "each sample, so the output must begin with the batch axis."
            )
        shape = (population.size, math.prod(leaf.shape[len(batch) :]))
        std = self.scale / math.sqrt(population.size)
        value = std * brainstate.random.normal(size=shape).astype(u.get_mantissa(leaf).dtype)
        return u.maybe_decimal(u.Quantity(value, unit=u.get_unit(leaf)))

    def fed_back(self, out: Any, weights: dict[str, Any]) -> Any:
        """See `Error.fed_back`."""
        leaves, structure = flatten_output(out)
        for name, (population, filters) in self._readings.items():
            for key, B in weights[name].value.items():
                for s in [part.hidden[state].value for part, state in filters[key]] or [population.neuron.get_spike()]:
                    term = u.get_mantissa(s).reshape(population.rows, population.size) @ B
                    leaves[key] = leaves[key] + (term - jax.lax.stop_gradient(term)).reshape(u.math.shape(leaves[key]))
        return jax.tree.unflatten(structure, list(leaves.values()))
