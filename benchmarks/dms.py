"""Time to the same accuracy on delayed match-to-sample: D-RTRL of etrax and of braintrace, in one run.

Both train the network of the recipe from the same weights on the same trials, with Adam and an update per batch; in turns,
some updates each, so that whatever else the machine does meets both. Weights are validated on the same trials by the same
network. Times are numbers of updates times the median time of one, compilation left out. braintrace counts the path from
a synapse to the potential twice, so its gradient is another one.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np
from cases import DT, Case, Network, etrax_modules, peer_modules
from common import RESULTS, environment, table, write

import etrax
from etrax import tasks
from etrax.network import build
from etrax.training import evaluate

__all__ = ["Contender", "main"]

NAMES = ("etrax", "braintrace")
SAME = 1e-4  # relative difference of the losses of the first batch, float32


def arguments(argv=None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--delay", type=float, default=100.0, metavar="MS", help="between sample and second stimulus (default: 100)")
    add("--neurons", type=int, default=50)
    add("--batch-size", type=int, default=32)
    add("--learning-rate", type=float, default=1e-2, help="of Adam, constant")
    add("--accuracy", type=float, default=0.95, help="validation accuracy to come to (default: 0.95)")
    add("--every", type=int, default=16, help="updates between validations (default: 16)")
    add("--max-updates", type=int, default=640)
    add("--seed", type=int, default=0)
    add("--contenders", nargs="+", default=NAMES, choices=NAMES)
    add("--out", type=Path, default=RESULTS / "dms.json", help="results; the figure goes beside it")
    return parser.parse_args(argv)


class Contender:
    """A network, its learner and how far it has come.

    Attributes
    ----------
    seconds : list of float
        Of each update; the first one is compiled in.
    curve : list of (updates, accuracy)
        On the validation trials.
    """

    def __init__(self, name: str, case: Case, weights: dict, example, learning_rate: float):
        self.name, self.case = name, case
        if name == "etrax":
            lib, compile, algorithm = etrax_modules(), etrax.compile, etrax.D_RTRL
        else:
            import braintrace

            lib, compile, algorithm = peer_modules(), braintrace.compile, braintrace.D_RTRL
        self.net = Network(lib, case, weights)
        self.learner = compile(self.net, algorithm, example, batch_size=case.batch)
        self.params = self.net.parameters()
        self.optimizer = braintools.optim.Adam(lr=learning_rate)
        self.optimizer.register_trainable_weights(self.params)
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.curve: list[tuple[int, float]] = []
        self._update = brainstate.transform.jit(self._one)

    def _one(self, xs, ys, mask):
        brainstate.nn.reset_all_states(self.net, batch_size=self.case.batch)
        self.learner.reset_state(batch_size=self.case.batch)

        def step(x, y):
            out = self.learner(x)
            return jnp.mean(braintools.metric.softmax_cross_entropy_with_integer_labels(out, y))

        grads, losses = self.learner.etrace_grad(
            xs, ys, step_fn=step, mask=mask, weights=self.params, return_value=True
        )
        self.optimizer.update(grads)
        return jnp.sum(losses * mask) / jnp.sum(mask)

    def train(self, batch) -> None:
        """One update, timed."""
        batch = jax.block_until_ready(tuple(jnp.asarray(part) for part in batch))
        start = time.perf_counter()
        loss = self._update(*batch)
        jax.block_until_ready([loss, *(state.value for state in self.params.values())])
        self.seconds.append(time.perf_counter() - start)
        self.losses.append(float(loss))

    def lend(self, twin: Network) -> None:
        """Give the weights to a network of the same names."""
        for name, state in twin.parameters().items():
            leaves = jax.tree.leaves(self.params[name].value)
            state.value = jax.tree.unflatten(jax.tree.structure(state.value), leaves)

    @property
    def step(self) -> float:
        """Median seconds of an update."""
        return statistics.median(self.seconds[1:])

    def result(self, accuracy: float) -> dict:
        """What it took to come to that accuracy."""
        reached = next((n for n, a in self.curve if a >= accuracy), None)
        return {
            "updates": reached,
            "seconds_to_accuracy": None if reached is None else reached * self.step,
            "compile_seconds": sum(s - self.step for s in self.seconds[:2]),  # braintrace compiles twice
            "seconds_per_update": self.step,
            "best_accuracy": max(a for _, a in self.curve),
            "curve": self.curve,
            "seconds": self.seconds,
        }


def run(args: argparse.Namespace) -> dict[str, Contender]:
    """Train all contenders until they come to the accuracy, or to the end."""
    task = tasks.get("dms", delay=args.delay * u.ms)
    recipe = dataclasses.replace(task.recipe, n_rec=args.neurons, batch_size=args.batch_size)
    case = Case("alif", "leaky", task.n_in, args.neurons, args.batch_size, task.n_steps)
    taus = {name: float(getattr(recipe, name).to_decimal(u.ms)) for name in ("tau", "tau_a", "tau_out")}
    case = dataclasses.replace(
        case, **taus, tau_syn=float(recipe.tau_syn.to_decimal(u.ms)), beta=float(recipe.beta.to_decimal(u.mV))
    )
    first = build(task, recipe, seed=args.seed)
    weights = {
        "layer0": first.projection.comm.weight.value["weight"].to_decimal(u.mS),
        "readout": jax.tree.leaves(first.readout.weight.value)[0],
    }
    example = jnp.zeros((args.batch_size, task.n_in), jnp.float32)
    contenders = {n: Contender(n, case, weights, example, args.learning_rate) for n in args.contenders}
    twin = Network(etrax_modules(), case, weights)
    running: dict[str, Callable] = {n: iter(_batches(task, args)).__next__ for n in contenders}
    for done in range(args.every, args.max_updates + 1, args.every):
        for name, draw in list(running.items()):
            contender = contenders[name]
            for _ in range(args.every):
                contender.train(draw())
            contender.lend(twin)
            accuracy = evaluate(twin, task.validation(args.batch_size), task.loss).accuracy
            contender.curve.append((done, accuracy))
            print(f"{name:10} {done:5} updates, accuracy {accuracy:.1%}, {contender.step:.3f} s per update", flush=True)
            if accuracy >= args.accuracy:
                del running[name]
        if done == args.every:
            _check_same(contenders)
        if not running:
            break
    return contenders


def _batches(task, args):
    for epoch in range(args.max_updates):
        yield from task.train(args.batch_size, seed=args.seed, epoch=epoch)


def _check_same(contenders: dict[str, Contender]) -> None:
    losses = [contender.losses[0] for contender in contenders.values()]
    if np.ptp(losses) > SAME * np.mean(losses):
        sys.exit(f"the losses of the first batch differ, {losses}: these are not the same networks.")


def main(argv=None) -> None:
    """Run, print a table, write the results and a figure."""
    args = arguments(argv)
    try:
        with brainstate.environ.context(dt=DT * u.ms):
            contenders = run(args)
    except ImportError as error:
        sys.exit(f"not installed ({error}): pip install '.[peers]', or leave it out with --contenders etrax.")
    results = {name: contender.result(args.accuracy) for name, contender in contenders.items()}
    rows = [
        [
            name,
            f"{r['updates']}" if r["updates"] else f"not in {args.max_updates}",
            f"{r['seconds_to_accuracy']:.1f}" if r["updates"] else "-",
            f"{r['seconds_per_update']:.3f}",
            f"{r['compile_seconds']:.1f}",
            f"{r['best_accuracy']:.1%}",
        ]
        for name, r in results.items()
    ]
    print()
    print(table(rows, ["", f"updates to {args.accuracy:.0%}", "seconds", "per update", "compile", "best"]))

    def draw(figure):
        figure.set_size_inches(5.0, 3.2)
        axis = figure.subplots()
        for name, contender in contenders.items():
            updates, accuracy = np.array(contender.curve).T
            axis.plot(updates * contender.step, 100 * accuracy, ".-", label=name)
        axis.axhline(100 * args.accuracy, color="0.7", linestyle="--", linewidth=0.8)
        axis.set_xlabel("seconds of training, compilation left out")
        axis.set_ylabel("validation accuracy (%)")
        axis.set_title(f"dms, {args.delay:g} ms delay, {args.neurons} neurons", fontsize=9)
        axis.legend(frameon=False)

    settings = {name: value for name, value in vars(args).items() if name != "out"}
    write(args.out, {"environment": environment(), "settings": settings, "results": results}, draw)


if __name__ == "__main__":
    main()
