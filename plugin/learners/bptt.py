"""Backpropagation through time with the learners' interface, as a baseline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import brainstate
import brainunit as u
import jax
import jax.numpy as jnp

from etrax.checks import check_mask, check_sequences
from etrax.contract.recorder import Recorder, active, like, recording
from etrax.engine.pure import Pure, States
from etrax.engine.sequence import one_call

__all__ = ["BPTT"]


class BPTT(brainstate.nn.Module):
    """Backpropagation through time over the given sequence; memory grows with its length.

    Werbos 1990, Proc. IEEE 78(10). The states that the sequence starts from are held constant.

    Parameters
    ----------
    model : brainstate.nn.Module
        One step of the network.
    name : str, optional
        Name of the learner.
    """

    graph_invisible_attrs: tuple[str, ...] = ("_states",)

    def __init__(self, model: brainstate.nn.Module, *, name: str | None = None):
        super().__init__(name=name)
        self.model = model
        self._states = States(())
        self._params: dict | None = None

    def compile_graph(self, *args) -> None:
        """Take note of the model's parameters; ``args`` is one step's input."""
        found = self.model.states()
        self._states = States(found.values())
        self._params = {path: s for path, s in found.items() if isinstance(s, brainstate.ParamState)}
        self._compiled: dict = {}
        self._batch = jnp.shape(jax.tree.leaves(args)[0])[0] if jnp.ndim(jax.tree.leaves(args)[0]) > 1 else None

    @property
    def param_states(self) -> dict:
        """The trainable parameters of the model by path."""
        if self._params is None:
            raise RuntimeError("this BPTT is not compiled: use `etrax.compile(model, etrax.BPTT, x0, batch_size=...)`.")
        return dict(self._params)

    def update(self, *args) -> Any:
        """One step of the model."""
        recorder = active()
        if recorder is not None:
            recorder.call()
        return self.model(*args)

    def reset_state(self, batch_size: int | None = None, **kwargs) -> None:
        """Give all states of the model their initial values."""
        brainstate.nn.reset_all_states(
            self.model, batch_size=self._batch if batch_size is None else batch_size, **kwargs
        )

    def etrace_grad(
        self,
        *sequences: Any,
        step_fn: Callable,
        mask: Any = None,
        chunk_size: int | None = None,
        weights: dict | None = None,
        trial: bool = False,
        reduction: str = "mean",
        has_aux: bool = False,
        return_value: bool = False,
    ) -> Any:
        """The gradient of the summed (or mean) loss over the sequence; arguments as in `D_RTRL.etrace_grad`.

        ``chunk_size`` and ``trial`` are accepted and ignored: the whole sequence is one chunk, with no credit from before.
        """
        weights = self.param_states if weights is None else weights
        T = check_sequences(sequences)
        mask = check_mask(mask, T)
        if reduction not in ("mean", "sum"):
            raise ValueError(f"`reduction` must be 'mean' or 'sum', got {reduction!r}.")
        numbers = {path: self._states.index(state) for path, state in weights.items()}
        key = (step_fn, has_aux, tuple(numbers.values()))
        if key not in self._compiled:
            self._compiled[key] = self._make(step_fn, has_aux, list(numbers.values()), sequences)
        pure, run = self._compiled[key]
        used, _ = pure.trace(*jax.tree.map(lambda a: a[0], sequences))
        used = sorted({*used, *numbers.values()})
        grads, last, losses, aux = self._apply(run, self._states.read(used), sequences, mask)
        self._states.write(last)
        denominator = jnp.maximum(jnp.sum(mask), 1.0) if reduction == "mean" else 1.0
        grads = {path: jax.tree.map(lambda g: g / denominator, grads[i]) for path, i in numbers.items()}
        parts = [grads, *([losses] if return_value else []), *([aux] if has_aux else [])]
        return parts[0] if len(parts) == 1 else tuple(parts)

    def _apply(self, run, values, sequences, mask):
        return run(values, sequences, mask)

    def _pure(self, step_fn, has_aux, sequences) -> tuple[Pure, list[int]]:
        """One step as a pure function with result ``(loss, aux)``, and the numbers of the states that it writes."""

        def step(*slices):
            with recording(Recorder()):
                result = one_call(step_fn, slices)
            loss, aux = result if has_aux else (result, None)
            return u.get_mantissa(loss), aux

        pure = Pure(step, self._states)
        _, written = pure.trace(*jax.tree.map(lambda a: a[0], sequences))
        return pure, written

    def _make(self, step_fn, has_aux, numbers, sequences):
        pure, written = self._pure(step_fn, has_aux, sequences)

        @jax.jit
        def run(values, sequences, mask):
            fixed = {i: v for i, v in values.items() if i not in written}

            def total(weights):
                def body(state, at):
                    new, out = pure({**fixed, **weights, **state}, *at)
                    return like(state, {**state, **new}), out

                last, (losses, aux) = jax.lax.scan(body, {i: values[i] for i in written}, sequences)
                return jnp.sum(losses * mask), (last, losses, aux)

            grads, (last, losses, aux) = jax.grad(total, has_aux=True)({i: values[i] for i in numbers})
            return grads, last, losses, aux

        return pure, run
