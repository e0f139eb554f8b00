"""Driving a learner over sequences, chunk by chunk."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.checks import check_mask, check_sequences
from etrax.contract.recorder import active

from .engine import Engine
from .layer import Layer
from .run import run_chunks

__all__ = ["SequenceDriver", "one_call"]

_KEPT = 16  # compiled step functions kept per learner


class SequenceDriver:
    """``etrace_grad`` and ``etrace_evolve`` for a learner with an engine."""

    graph: Any
    vjp_method: str
    through_depth: bool
    _layouts: dict[str, Any]
    _engines: OrderedDict
    _read_traces: Callable[[], dict]
    _write_traces: Callable[[dict], None]

    @property
    def param_states(self) -> dict:
        """The parameters to differentiate by path."""
        raise NotImplementedError  # abstract: a learner has them

    def etrace_grad(
        self,
        *sequences: Any,
        step_fn: Callable,
        mask: Any = None,
        chunk_size: int | None = None,
        weights: dict | None = None,
        trial: bool = False,
        reduction: str = "mean",
        loss_output: str = "per_step",
        has_aux: bool = False,
        return_value: bool = False,
    ) -> Any:
        """Online gradient over a sequence; states and traces go on from where they are.

        Parameters
        ----------
        *sequences : pytree
            Time-major: every leaf has the leading length ``T`` and is sliced for ``step_fn``.
        step_fn : callable
            ``(*slices) -> loss`` (or ``(loss, aux)``): calls this learner exactly once and returns the scalar
            loss of the step. Define it once and pass the same object again: it is compiled once.
        mask : array, optional
            Weight of each step's loss, shape ``(T,)``. The trace advances at every step all the same.
        chunk_size : int, optional
            Steps evaluated in parallel, ``K >= 1``. Any value gives the same gradient (unless credit goes through the
            steps of a chunk: ``vjp_method='multi-step'``, ``through_depth``); memory grows with ``K``, and by the chunks
            that wait for their credit (some 640 steps, or four chunks, at most), not with ``T``; a sequence that is no
            longer than these is one chunk. Chosen by the size of the trace if left out.
        weights : dict, optional
            ``path -> ParamState`` to differentiate; all parameters of the model if left out.
        trial : bool
            Whether the sequence is a whole trial: the trace starts at zero and is zero afterwards, so that none is read
            at its start and none formed at its end, which saves most of what the trace costs where chunks are few.
            States of the model go on from where they are: call :meth:`reset_state` before, as ever.
        reduction : {'mean', 'sum'}
            ``'mean'`` divides by ``max(sum(mask), 1)``.
        loss_output : {'per_step', 'masked', 'scalar'}
            What ``return_value`` gives: the losses ``(T,)``, those times the mask, or the reduced loss.
        has_aux : bool
            Whether ``step_fn`` returns ``(loss, aux)``; aux comes back stacked over time.
        return_value : bool
            Whether to return the losses too.

        Returns
        -------
        grads, or tuple of grads, losses, aux as asked for
            ``grads`` is keyed like ``weights``; each gradient has the unit and structure of its parameter.

        Raises
        ------
        ValueError
            For sequences that are empty, of different lengths or with NaN, a mask of another length, a loss
            that is not a scalar, a parameter that no path reaches, a ``step_fn`` that does not call the learner once.

        Notes
        -----
        A gradient may itself be differentiated (`brainstate.transform.grad`) if the sequence is one chunk. Where chunks
        wait, in a longer one, it may not: what is done only if needed is a loop.
        """
        graph = self.graph
        if reduction not in ("mean", "sum"):
            raise ValueError(f"`reduction` must be 'mean' or 'sum', got {reduction!r}.")
        if loss_output not in ("per_step", "masked", "scalar"):
            raise ValueError(f"`loss_output` must be 'per_step', 'masked' or 'scalar', got {loss_output!r}.")
        T = check_sequences(sequences)
        mask = check_mask(mask, T)
        chunk = self._chunk_size(chunk_size, T)
        weights = self.param_states if weights is None else weights
        if not weights:
            raise ValueError("`weights` is empty: give at least one ParamState to differentiate.")
        numbers = {path: graph.states.index(state) for path, state in weights.items()}

        def step(*slices):
            result = one_call(step_fn, slices)
            return result if has_aux else (result, None)

        engine, run = self._engine_for(
            ("grad", step_fn, has_aux, tuple(numbers.values())), step, list(numbers.values()), sequences
        )
        values = graph.states.read(engine.used)
        eps = None if trial else self._read_traces()
        last, eps, grads, losses, aux = run(values, eps, sequences, mask, chunk, reduction, loss_output, trial)
        graph.states.write(last)
        self._write_traces(eps)
        grads = {path: grads[i] for path, i in numbers.items()}
        parts = [grads, *([losses] if return_value else []), *([aux] if has_aux else [])]
        return parts[0] if len(parts) == 1 else tuple(parts)

    def etrace_evolve(
        self,
        *sequences: Any,
        step_fn: Callable | None = None,
        chunk_size: int | None = None,
        return_outputs: bool = False,
    ) -> Any:
        """Advance states and traces over a sequence, without loss and gradient.

        Parameters
        ----------
        *sequences : pytree
            Time-major inputs, as in :meth:`etrace_grad`.
        step_fn : callable, optional
            Calls the learner once per step; the learner itself if left out.
        chunk_size : int, optional
            As in :meth:`etrace_grad`.
        return_outputs : bool
            Whether to return what each step gave, stacked over time.

        Returns
        -------
        None or pytree
            The outputs ``(T, ...)`` if asked for.
        """
        graph = self.graph
        T = check_sequences(sequences)
        chunk = self._chunk_size(chunk_size, T)
        call: Any = self if step_fn is None else step_fn

        def step(*slices):
            out = one_call(call, slices)
            return None, out if return_outputs else None

        engine, run = self._engine_for(("evolve", call, return_outputs), step, [], sequences)
        values, mask = graph.states.read(engine.used), check_mask(None, T)
        last, eps, _, _, outputs = run(values, self._read_traces(), sequences, mask, chunk, "sum", "per_step", False)
        graph.states.write(last)
        self._write_traces(eps)
        return outputs if return_outputs else None

    def _engine_for(self, key: tuple, step: Callable, weights: list[int], sequences: tuple) -> tuple[Engine, Callable]:
        """The engine and compiled run for a step function, made at first use."""
        shapes = [(u.math.shape(leaf)[1:], str(jnp.result_type(leaf))) for leaf in jax.tree.leaves(sequences)]
        key = (*key, str(jax.tree.structure(sequences)), str(shapes))
        engines = self._engines
        if key not in engines:
            first = jax.tree.map(lambda leaf: leaf[0], sequences)
            engine = Engine(self.graph, self._layouts, step, weights, first, self.vjp_method, self.through_depth)

            def run(values, eps, sequences, mask, chunk, reduction, loss_output, trial):
                blank = {name: layout.zeros() for name, layout in self._layouts.items()}
                eps = blank if trial else eps
                last, eps, grads, losses, aux = run_chunks(engine, values, eps, sequences, mask, chunk, trial)
                if reduction == "mean":
                    denominator = jnp.maximum(jnp.sum(mask), 1.0)
                    grads = jax.tree.map(lambda g: (g / denominator).astype(g.dtype), grads)
                if loss_output != "per_step":
                    losses = losses * mask
                if loss_output == "scalar":
                    losses = jnp.sum(losses) / (denominator if reduction == "mean" else 1.0)
                return last, eps, grads, losses, aux

            engines[key] = engine, jax.jit(run, static_argnums=(4, 5, 6, 7))
            if len(engines) > _KEPT:
                engines.pop(next(iter(engines)))
        return engines[key]

    def _chunk_size(self, chunk_size: int | None, T: int) -> int:
        if chunk_size is None:
            fewest = -(-T // self._natural_chunk())
            number = next((n for n in range(fewest, 2 * fewest) if T % n == 0), fewest)
            return -(-T // number)  # of one length, so that no shorter one at the end needs a program of its own
        if isinstance(chunk_size, bool) or not isinstance(chunk_size, int):
            raise TypeError(f"`chunk_size` must be None or an int, got {chunk_size!r}.")
        if chunk_size < 1:
            raise ValueError(f"`chunk_size` must be at least 1, got {chunk_size}.")
        return min(T, chunk_size)

    def _natural_chunk(self) -> int:
        """Steps whose activations weigh about as much as the trace, but at least 128 and at most 512.

        Of every step a chunk holds the states and what enters a layer, and the factors of its gradient and of its trace.
        """
        item = jnp.zeros((), brainstate.environ.dftype()).dtype.itemsize
        values = sum(p.rows * p.size * len(p.hidden) for p in self.graph.populations)
        factors = {name: 1 + layout.products() for name, layout in self._layouts.items()}
        layers = {name: layout for name, layout in self._layouts.items() if isinstance(layout, Layer)}
        values += sum(a.rows * (a.in_size + a.out_size * factors[name]) for name, a in layers.items())
        return int(min(512, max(128, sum(layout.nbytes() for layout in self._layouts.values()) // (item * values))))


def one_call(fn: Callable, slices: tuple):
    """``fn(*slices)``; a ValueError unless it called the learner exactly once."""
    result = fn(*slices)
    recorder = active()
    if recorder is not None:
        recorder.close()
    return result
