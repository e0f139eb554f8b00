"""Online learners: what a user compiles, calls and asks for gradients."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.checks import check_dt, check_finite
from etrax.contract.recorder import NOTHING, active
from etrax.engine.engine import Engine
from etrax.engine.graph import Graph
from etrax.engine.population import Path
from etrax.engine.sequence import SequenceDriver
from etrax.engine.traces.choose import CARRIES, make_trace

from .report import Report

__all__ = ["D_RTRL", "EligibilityTrace"]


class EligibilityTrace(brainstate.ShortTermState):
    """The eligibility trace of one projection: ``{state path: {"x": ..., "one": ...}}``, mantissas."""


class D_RTRL(SequenceDriver, brainstate.nn.Module):
    r"""Real-time recurrent learning with the diagonal of the state-transition Jacobian.

    .. math::
        \epsilon_t = D_t \epsilon_{t-1} + f_t \otimes x_t, \qquad
        \nabla = \sum_t L_t \cdot \epsilon_t

    ``D_t`` and ``f_t`` are composed from what the model's modules register; ``x_t`` is what
    enters a projection, ``L_t`` the derivative of the loss of step ``t`` with respect to the
    states of that step. Wang et al. 2026, Nature Communications, doi 10.1038/s41467-026-68453-w,
    evaluated in parallel over chunks of time.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network.
    vjp_method : {'single-step', 'multi-step'}
        Inside a chunk: the learning signals of each step alone (D-RTRL), or backpropagation through the steps of
        the chunk with the trace across its border. With chunks of one step the two are the same; with one chunk
        the latter is backpropagation through time.
    through_depth : bool
        Inside a chunk, let credit go down through the memory of upper populations: what a projection sends at step
        ``t`` gets ``f_t . a_t`` with the adjoint ``a_t = L_t + D_{t+1}^T a_{t+1}`` of the neurons that it feeds, in place of
        ``f_t . L_t``. With chunks of one step the two are the same. With one chunk, and no loops between or within
        populations, the gradient is that of backpropagation through time for a stack of any depth.
    carry : {'dense', 'window', 'rank1', 'none'}
        What is kept of the traces between chunks: all; the factors of the last steps; one outer product
        (ES-D-RTRL, an approximation); nothing. Dense, sparse and element-wise layers have a trace, one value per
        weight and state. Any other layer (not affine in its input, or with far fewer parameters than weights, as a
        convolution) is exact inside a chunk and carried by a window, as `report` says.
    window : int, optional
        Steps kept by a window; taken from ``tolerance`` if left out.
    tolerance : float
        To what share the slowest state must have decayed, at rest, when a step leaves the window.
    decay : float
        Low-pass factor of ``carry='rank1'`` per step, in [0, 1).
    trace_dtype : dtype, optional
        In which a dense trace is kept between chunks, e.g. ``jnp.bfloat16`` for half the memory; what it is
        computed in does not change.
    name : str, optional
        Name of the learner.

    Raises
    ------
    ValueError
        If an option has a value that is not allowed.
    """

    diagonal = True

    def __init__(
        self,
        model: brainstate.nn.Module,
        *,
        vjp_method: str = "single-step",
        through_depth: bool = False,
        carry: str = "dense",
        window: int | None = None,
        tolerance: float = 1e-3,
        decay: float = 0.95,
        trace_dtype: Any = None,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if vjp_method not in ("single-step", "multi-step"):
            raise ValueError(f"`vjp_method` must be 'single-step' or 'multi-step', got {vjp_method!r}.")
        if carry not in CARRIES:
            raise ValueError(f"`carry` must be one of {', '.join(CARRIES)}, got {carry!r}.")
        if through_depth and vjp_method == "multi-step":
            raise ValueError(
                "`through_depth` with `vjp_method='multi-step'`: backpropagation through the chunk goes through depth already; "
                "leave out one of the two."
            )
        if through_depth and carry == "rank1":
            raise ValueError(
                "`through_depth` with `carry='rank1'`: a trace of rank 1 has no adjoint to send down; use `carry='dense'` or "
                "`carry='window'`."
            )
        if window is not None and (not isinstance(window, int) or window < 1):
            raise ValueError(f"`window` must be a number of steps, at least 1, got {window!r}.")
        if not 0.0 < tolerance < 1.0:
            raise ValueError(f"`tolerance` must be between 0 and 1, got {tolerance!r}.")
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"`decay` must be at least 0 and below 1, got {decay!r}.")
        self.vjp_method = vjp_method
        self.through_depth = through_depth
        self._options = dict(carry=carry, window=window, tolerance=tolerance, decay=decay, trace_dtype=trace_dtype)
        if not isinstance(model, brainstate.nn.Module):
            raise TypeError(f"`model` must be a brainstate.nn.Module, got {type(model).__name__}.")
        self.model = model
        self.traces: dict[str, EligibilityTrace] = {}
        self._graph: Graph | None = None

    graph_invisible_attrs: tuple[str, ...] = (
        "_options",
        "_graph",
        "_layouts",
        "_engine",
        "_engines",
        "_inputs",
        "_advance",
        "_perturbed",
    )

    # -- set-up --------------------------------------------------------------------------

    def compile_graph(self, *args) -> None:
        """Run one step on an example input, collect what the modules register, allocate the traces.

        Parameters
        ----------
        *args
            Arguments of ``model.update`` for one step (no time axis), e.g. spikes of shape ``(batch, n_in)``.

        Raises
        ------
        ValueError
            If ``dt`` is not set, if ``args`` do not fit the model, or if a parameter can never get a gradient.
        """
        check_dt()
        if not args:
            raise ValueError("`compile_graph` needs an example input of one step, e.g. `learner.compile_graph(xs[0])`.")
        self._dt = brainstate.environ.get_dt()
        self._inputs = _shapes(args)
        try:
            graph = Graph(self.model, *args, diagonal=self.diagonal)
        except TypeError as error:
            raise ValueError(
                f"the model does not run on an example input of shape {_text(self._inputs)} ({str(error).splitlines()[0]}): check "
                "the number of inputs, and that `batch_size` is that of the input (None for an input without a batch axis)."
            ) from error
        self._layouts = {source.name: make_trace(graph, source, self._options) for source in graph.sources}
        self.traces = {name: EligibilityTrace(layout.zeros()) for name, layout in self._layouts.items()}
        self._graph = graph
        self._prepare(graph, args)
        self._engines = OrderedDict()
        self._engine = Engine(graph, self._layouts, lambda *a: (None, self._output(*a)), [], args)
        self._advance = jax.jit(self._engine.advance)
        self._perturbed = jax.jit(self._perturbed_step)

    def _prepare(self, graph: Graph, args: tuple) -> None:
        """What a relative needs beside the traces."""

    def _output(self, *args) -> Any:
        """One step of the model; where a relative changes how the error reaches the states."""
        return self.model(*args)

    @property
    def graph(self) -> Graph:
        """Populations, connections and kinds found by :meth:`compile_graph`."""
        if self._graph is None:
            raise RuntimeError(
                f"this {type(self).__name__} is not compiled: call `learner.compile_graph(x0)` with one step's input after "
                "`brainstate.nn.init_all_states(model, batch_size=...)`, or use `etrax.compile(model, ..., x0, batch_size=...)`."
            )
        if self._dt != brainstate.environ.get("dt", None):
            raise ValueError(
                f"`dt` is {brainstate.environ.get('dt', None)} now but was {self._dt} when the learner was compiled: use one dt, "
                "or call `compile_graph` again."
            )
        if not self._graph.current():
            raise RuntimeError(
                "the model's states were created anew after this learner was compiled (by `init_all_states`, or by compiling "
                "another learner for the model): compile again, or build one model per learner."
            )
        return self._graph

    @property
    def param_states(self) -> dict[Path, brainstate.ParamState]:
        """The trainable parameters of the model by path."""
        return dict(self.graph.params)

    @property
    def hidden_states(self) -> dict[Path, brainstate.HiddenState]:
        """The states of all populations by path."""
        return {h.path: h.state for h in self.graph.hidden}

    # -- one step ------------------------------------------------------------------------

    def update(self, *args) -> Any:
        """Run one step of the model and advance the traces.

        Under ``brainstate.transform.grad`` the result carries the online gradient: the gradient of
        any loss of this step's outputs (or states) is ``L_t . eps_t``.

        Raises
        ------
        RuntimeError
            If the learner has not been compiled.
        ValueError
            If an argument has another shape than the example given to :meth:`compile_graph`.
        """
        graph = self.graph
        shapes = _shapes(args)
        if shapes != self._inputs:
            raise ValueError(
                f"the learner was compiled for inputs of shape {_text(self._inputs)} but got {_text(shapes)}: batch size of "
                "data and model must agree, and the input has no time axis here; compile again for another shape."
            )
        recorder = active()
        if recorder is not None:
            recorder.call()
            return self._output(*args)
        for i, leaf in enumerate(jax.tree.leaves(args)):
            check_finite(leaf, f"input {i}")
        engine = self._engine
        values = graph.states.read(engine.used)
        old = {i: jax.lax.stop_gradient(v) if i in engine.written else v for i, v in values.items()}
        frozen = jax.tree.map(jax.lax.stop_gradient, old)
        eps = self._advance(frozen, self._read_traces(), jax.tree.map(jax.lax.stop_gradient, args))
        weights = {graph.states.index(s): s.value for s in graph.params.values() if id(s) in graph.covered}
        zeros = self._attach(frozen, weights, eps)
        new, out = self._perturbed(old, zeros, args)
        graph.states.write(new)
        self._write_traces({name: self._layouts[name].keep(value) for name, value in eps.items()})
        return out

    def _perturbed_step(self, values, zeros, args):
        new, out = self._engine._observed(values, zeros, NOTHING, *args)
        return new, out["aux"]

    def _attach(self, values, weights, eps):
        """Zeros for all states whose derivative with respect to the weights is the trace."""
        engine, layouts = self._engine, self._layouts

        @jax.custom_vjp
        def zeros(weights, eps):
            return engine.zeros

        def forward(weights, eps):
            return engine.zeros, (weights, eps)

        def backward(residuals, back):
            weights, eps = residuals
            grads = jax.tree.map(jnp.zeros_like, weights)
            for name, layout in layouts.items():
                for i, g in layout.carried({**values, **weights}, eps[name], back).items():
                    grads[i] = jax.tree.map(jnp.add, grads[i], g)
            return grads, jax.tree.map(jnp.zeros_like, eps)

        zeros.defvjp(forward, backward)
        return zeros(weights, eps)

    # -- traces --------------------------------------------------------------------------

    def _read_traces(self) -> dict:
        return {name: state.value for name, state in self.traces.items()}

    def _write_traces(self, eps: dict) -> None:
        for name, value in eps.items():
            self.traces[name].value = value

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Give all states of the model their initial values and set the traces to zero.

        Parameters
        ----------
        batch_size : int, optional
            As given to ``compile``; taken from the compiled model if left out.
        """
        batch = self.graph.populations[0].batch
        if batch_size is not None and (batch_size,) != batch:
            raise ValueError(
                f"`batch_size` is {batch_size} but the learner was compiled for {batch[0] if batch else None}: compile again "
                "for another batch size."
            )
        brainstate.nn.reset_all_states(self.model, batch_size=batch[0] if batch else None, **kwargs)
        self._write_traces({name: layout.zeros() for name, layout in self._layouts.items()})

    def get_etrace_of(self, weight: brainstate.ParamState | Path | str) -> dict[Path, Any]:
        """The eligibility trace of one parameter, in full.

        Parameters
        ----------
        weight : ParamState, path or dotted path
            A parameter of a projection, e.g. ``"syn.comm.weight"``, or a trained constant, e.g. ``"neu.tau"``.

        Returns
        -------
        dict
            ``state path -> d state / d weight``, shaped like the weight with a leading batch axis (as the model
            has one), in the unit of the state per unit of the weight; for a constant, shaped like the state.

        Raises
        ------
        ValueError
            If the parameter is trained through no trace.
        """
        graph = self.graph
        named = {".".join(map(str, path)): state for path, state in graph.params.items()}
        state: Any = weight
        if isinstance(weight, str | tuple | list):
            state = named.get(weight if isinstance(weight, str) else ".".join(map(str, weight)))
        sources = [c for c in graph.sources if any(s is state for s in c.params.values())]
        if state is None or not sources:
            known = sorted({".".join(map(str, p)) for c in graph.sources for p in c.params})
            raise ValueError(f"`weight` {weight!r} has no trace; parameters with one: {', '.join(known) or 'none'}.")
        result: dict[Path, Any] = {}
        for source in sources:
            population = graph.populations[source.population]
            paths = {h.name: h.path for h in population.hidden}
            layout = self._layouts[source.name]
            for name, item in layout.dense(self.traces[source.name].value).items():
                path = paths[name]
                value = layout.like_weight(item, state, population.units[name])
                result[path] = jax.tree.map(jnp.add, result[path], value) if path in result else value
        return result

    def report(self) -> Report:
        """What is traced, and at what cost; print it."""
        return Report(self.graph, self._layouts)


def _shapes(args) -> list[tuple[int, ...]]:
    return [u.math.shape(leaf) for leaf in jax.tree.leaves(args)]


def _text(shapes: list[tuple[int, ...]]) -> str:
    return ", ".join(map(str, shapes))
