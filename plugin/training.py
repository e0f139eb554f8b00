"""Train a network on a task, online, and measure what it has learnt.

Examples
--------
>>> import brainstate, brainunit as u, etrax.tasks, etrax.training
>>> with brainstate.environ.context(dt=1.0 * u.ms):                          # doctest: +SKIP
...     task = etrax.tasks.get("digits")
...     run = etrax.training.train(task, method="d_rtrl", seed=0)
...     print(etrax.training.evaluate(run.network, task.test(32)).accuracy)
0.969
"""

from __future__ import annotations

import csv
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from .baselines import BPTT
from .files import atomic
from .learner import D_RTRL, NoTrace, compile
from .network import RecurrentALIF, build
from .tasks import Batch, Recipe, Task
from .tasks.base import positive

__all__ = ["METHODS", "Evaluation", "Method", "Run", "evaluate", "progress_bar", "train", "write_metrics"]


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to get gradients: a learner, and which parameters it trains (paths that start with ``part``)."""

    title: str
    algorithm: Any
    part: str | None = None


METHODS: dict[str, Method] = {
    "d_rtrl": Method("D-RTRL", D_RTRL),
    "no_trace": Method("D = 0", NoTrace),
    "readout": Method("readout only", NoTrace, part="readout"),
    "bptt": Method("BPTT", BPTT),
}


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How a network does on a set of trials.

    Attributes
    ----------
    loss : float
        Mean cross-entropy over trials and counted steps, nats.
    accuracy : float
        Share of right answers.
    rate : float
        Mean firing rate, spikes per neuron and second.
    labels, predictions : array of int (n,)
        Right and given answers.
    """

    loss: float
    accuracy: float
    rate: float
    labels: np.ndarray
    predictions: np.ndarray


@dataclasses.dataclass
class Run:
    """A finished training.

    Attributes
    ----------
    method : str
        Key of ``METHODS``.
    network : RecurrentALIF
        The trained network.
    learner : D_RTRL or BPTT
        What trained it.
    history : list of dict
        One row per epoch, the columns of ``metrics.csv``.
    seconds : float
        Wall time of the training, compilation and validation included.
    trace_bytes : int
        Bytes of eligibility traces carried from chunk to chunk: the same at every step, so also their peak.
    """

    task: Task
    recipe: Recipe
    method: str
    seed: int
    network: RecurrentALIF
    learner: Any
    history: list[dict[str, Any]]
    seconds: float
    trace_bytes: int


def train(
    task: Task,
    recipe: Recipe | None = None,
    *,
    method: str = "d_rtrl",
    seed: int = 0,
    chunk_size: int | None = None,
    progress: Any = False,
    on_epoch: Callable[[list[dict[str, Any]]], None] | None = None,
) -> Run:
    """Train a recurrent ALIF network on a task; the test trials are not touched.

    Each update runs a batch of trials from rest, with the gradient of the cross-entropy at the counted steps and of a
    cost of high firing rates at all steps (see `Recipe`).

    Parameters
    ----------
    task : Task
        From `etrax.tasks.get`.
    recipe : Recipe, optional
        Network and training; the task's own if left out.
    method : str
        A key of ``METHODS``.
    seed : int
        Of initial weights, order of trials and training spikes.
    chunk_size : int, optional
        Steps evaluated in parallel; any value gives the same gradient.
    progress : bool or bar
        Whether to show a progress bar, or the bar of :func:`progress_bar` to go on with.
    on_epoch : callable, optional
        Called with the history after each epoch.

    Returns
    -------
    Run
        Network, history and cost.

    Raises
    ------
    ValueError
        If the method is unknown, a number is not positive, or the batch is larger than the training set.
    """
    recipe = task.recipe if recipe is None else recipe
    chosen = check_method(method)
    check_numbers(seed=seed, chunk_size=chunk_size)
    n_updates = task.updates(recipe.batch_size)
    own_bar = isinstance(progress, bool)
    bar = progress_bar(task, recipe, [method], disable=not progress) if own_bar else progress
    bar.set_description(chosen.title, refresh=False)

    start = time.perf_counter()
    network = build(task, recipe, seed=seed)
    example = jnp.zeros((recipe.batch_size, task.n_in), brainstate.environ.dftype())
    learner = compile(network, chosen.algorithm, example, batch_size=recipe.batch_size)
    schedule = braintools.optim.CosineAnnealingLR(
        base_lr=recipe.learning_rate, T_max=recipe.epochs, eta_min=recipe.learning_rate / 20
    )
    update = _make_update(learner, network, recipe, schedule, chosen.part, chunk_size)
    forward = _make_forward(network)

    history: list[dict[str, Any]] = []
    for epoch in range(recipe.epochs):
        totals = np.zeros(3)
        for number, batch in enumerate(task.train(recipe.batch_size, seed=seed, epoch=epoch), start=1):
            totals += np.asarray(update(*batch))
            loss, accuracy, rate = totals / number
            bar.set_postfix_str(f"loss {loss:.3f}, accuracy {accuracy:.1%}, {rate:.1f} Hz", refresh=False)
            bar.update()
        loss, accuracy, rate = (totals / n_updates).tolist()
        held_out = _evaluate(forward, network, task.validation(recipe.batch_size))
        schedule.step()
        history.append(
            {
                "method": method,
                "epoch": epoch + 1,
                "train_loss": loss,
                "train_accuracy": accuracy,
                "train_rate_hz": rate,
                "validation_loss": held_out.loss,
                "validation_accuracy": held_out.accuracy,
                "validation_rate_hz": held_out.rate,
                "seconds": time.perf_counter() - start,
            }
        )
        if on_epoch is not None:
            on_epoch(history)
    seconds = time.perf_counter() - start
    if own_bar:
        bar.close()
    trace_bytes = learner.report().trace_bytes if isinstance(learner, D_RTRL) else 0
    return Run(task, recipe, method, seed, network, learner, history, seconds, trace_bytes)


def evaluate(network: RecurrentALIF, batches: Iterable[Batch]) -> Evaluation:
    """Run a network over batches of trials, e.g. ``task.test(32)``, without learning.

    The states of the network are reset; the answer is the class of the highest mean probability over the counted steps.

    Raises
    ------
    ValueError
        If there is no trial.
    """
    return _evaluate(_make_forward(network), network, batches)


def progress_bar(task: Task, recipe: Recipe, methods: Iterable[str], *, disable: bool = False) -> tqdm:
    """One bar over all updates of some trainings, with the time left; rarer lines where the output is no terminal."""
    total = task.updates(recipe.batch_size) * recipe.epochs * len(list(methods))
    interval = 0.2 if sys.stderr.isatty() else 10.0
    bar_format = "{desc}{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} updates{postfix}, {remaining} left"
    return tqdm(
        total=total, disable=disable, mininterval=interval, bar_format=bar_format, dynamic_ncols=True, file=sys.stderr
    )


def write_metrics(path: str | os.PathLike, rows: list[dict[str, Any]]) -> None:
    """Write rows of a history as CSV; the file is there in full or not at all."""
    with atomic(path) as draft, open(draft, "w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})


def check_method(method: str) -> Method:
    """The method of that name; a ValueError lists the known ones."""
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    return METHODS[method]


def check_numbers(*, seed: int, chunk_size: int | None) -> None:
    """A ValueError unless the seed is a whole number from 0 on and the chunk size, if given, one above 0."""
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed < 2**32:
        raise ValueError(f"`seed` must be a whole number from 0 to 2**32 - 1, got {seed!r}.")
    if chunk_size is not None:
        positive("chunk_size", chunk_size, whole=True)


# -- compiled parts ------------------------------------------------------------------------


def _cross_entropy(output, labels):
    return braintools.metric.softmax_cross_entropy_with_integer_labels(output, labels)


def _right(outputs, labels, mask):
    """Answers, and whether they are right: ``(T, B, n_out)`` to two ``(B,)``."""
    probability = jnp.tensordot(mask, jax.nn.softmax(outputs, axis=-1), axes=1)
    answer = jnp.argmax(probability, axis=-1)
    return answer, answer == labels[-1]


def _make_update(learner, network: RecurrentALIF, recipe: Recipe, schedule, part: str | None, chunk_size) -> Callable:
    """A compiled ``(xs, ys, mask) -> (loss, accuracy, rate)`` that makes one update."""
    params = {path: state for path, state in learner.param_states.items() if part is None or path[0] == part}
    optimizer = braintools.optim.Adam(lr=schedule)
    optimizer.register_trainable_weights(params)

    limit = float(recipe.rate_limit.to_decimal(u.Hz))

    def step(x, y, weight):
        out = learner(x)
        loss = weight * jnp.mean(_cross_entropy(out, y))
        cost = jnp.mean(jnp.square(jax.nn.relu(network.rates() / limit - 1.0))) if recipe.rate_cost else 0.0
        return loss + recipe.rate_cost * cost, (loss, out, jnp.mean(network.neurons.get_spike()))

    @brainstate.transform.jit
    def update(xs, ys, mask):
        learner.reset_state()
        # the cross-entropy counts at some steps, the rate at all
        weights = jnp.asarray(mask / jnp.mean(mask), xs.dtype)
        grads, (losses, outputs, spikes) = learner.etrace_grad(
            xs, ys, weights, step_fn=step, weights=params, chunk_size=chunk_size, has_aux=True
        )
        optimizer.update(grads)
        return jnp.mean(losses), jnp.mean(_right(outputs, ys, mask)[1]), jnp.mean(spikes) / _dt_seconds()

    return update


def _make_forward(network: RecurrentALIF) -> Callable:
    """A compiled ``(xs, ys, mask) -> (losses (B,), answers (B,), rates (B,))`` from rest."""

    def step(x):
        return network(x), jnp.mean(network.neurons.get_spike(), axis=-1)

    @brainstate.transform.jit
    def forward(xs, ys, mask):
        brainstate.nn.reset_all_states(network, batch_size=xs.shape[1])
        outputs, spikes = brainstate.transform.for_loop(step, xs)
        losses = jnp.tensordot(mask, _cross_entropy(outputs, ys), axes=1) / jnp.sum(mask)
        return losses, _right(outputs, ys, mask)[0], jnp.mean(spikes, axis=0) / _dt_seconds()

    return forward


def _evaluate(forward: Callable, network: RecurrentALIF, batches: Iterable[Batch]) -> Evaluation:
    parts = []
    for batch in batches:
        n = np.shape(batch.ys)[1]
        size = _batch_size(network, n)
        for start in range(0, n, size):  # a smaller batch is filled up with its last trial, for one compiled shape
            index = np.minimum(np.arange(start, start + size), n - 1)
            result = forward(jnp.asarray(batch.xs)[:, index], np.asarray(batch.ys)[:, index], batch.mask)
            kept = min(size, n - start)
            parts.append(
                [*(np.asarray(leaf)[:kept] for leaf in result), np.asarray(batch.ys)[-1, start : start + kept]]
            )
    if not parts:
        raise ValueError("`batches` is empty: give at least one batch of trials, e.g. `task.test(32)`.")
    losses, answers, rates, labels = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Evaluation(float(losses.mean()), float((answers == labels).mean()), float(rates.mean()), labels, answers)


def _batch_size(network: RecurrentALIF, n: int) -> int:
    """How many trials the network's states hold; they are made for ``n`` if there are none yet."""
    if not hasattr(network.neurons, "V"):
        brainstate.nn.init_all_states(network, batch_size=n)
    return u.math.shape(network.neurons.V.value)[0]


def _dt_seconds() -> float:
    return float(brainstate.environ.get_dt().to_decimal(u.second))
