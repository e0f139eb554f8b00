"""What the scripts of the table may use, each thing made when a script speaks of it."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import brainstate
import braintools
import brainunit as u
import jax
import jax.numpy as jnp
import numpy as np

import etrax
import etrax.cli
import etrax.comparison
import etrax.data
import etrax.experiment
import etrax.network
import etrax.neurons
import etrax.plots
import etrax.synapses
import etrax.tasks
import etrax.training

__all__ = ["run"]

T, B, N_IN, N_OUT = 20, 3, 4, 2


class Net(brainstate.nn.Module):
    """The network of the README."""

    def __init__(self, n_in=N_IN, n_rec=6, n_out=N_OUT):
        super().__init__()
        self.neu = etrax.neurons.LIF(n_rec, tau=20 * u.ms)
        weights = braintools.init.KaimingNormal(scale=12.0, unit=u.mS)
        self.syn = etrax.synapses.AlignPostProj(
            comm=brainstate.nn.Linear(n_in + n_rec, n_rec, w_init=weights, b_init=None),
            syn=etrax.synapses.Expon(n_rec, tau=10 * u.ms),
            out=etrax.synapses.CUBA(),
            post=self.neu,
        )
        self.out = etrax.neurons.LeakyReadout(n_rec, n_out, tau=20 * u.ms, pre=self.neu)

    def update(self, x):
        self.syn(u.math.concatenate([x, self.neu.get_spike()], axis=-1))
        return self.out(self.neu())


class Parameter(brainstate.nn.Module):
    """A model with one parameter."""

    def __init__(self, unit=u.mS, name="w"):
        super().__init__()
        setattr(self, name, brainstate.ParamState(jnp.ones(3) * unit))


def linear(unit: Any, n_in: int = 2, n_out: int = 3) -> Any:
    """A layer whose weights are 1."""
    return brainstate.nn.Linear(n_in, n_out, w_init=jnp.ones((n_in, n_out)) * unit, b_init=None)


def cli(*words: str) -> None:
    """The command line; what it says is the message of the SystemExit."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        try:
            code: Any = etrax.cli.main(list(words))
        except SystemExit as ended:
            code = ended.code
    raise SystemExit(f"{code}: {said.getvalue()}")


NAMES: dict[str, Any] = {
    **{name: getattr(module, name) for module in (etrax.neurons, etrax.synapses) for name in module.__all__},
    **{"brainstate": brainstate, "braintools": braintools, "u": u, "jax": jax, "jnp": jnp, "np": np, "etrax": etrax},
    **{"Net": Net, "Parameter": Parameter, "Linear": brainstate.nn.Linear, "linear": linear, "cli": cli},
}

_kept: dict[str, Any] = {}


def _learner() -> Any:
    """A compiled learner, for all scripts but those that spoil it for others."""
    with contextlib.suppress(Exception):
        _kept["learner"].param_states  # noqa: B018 - raises where a script has made the states anew
        return _kept["learner"]
    _kept["learner"] = etrax.compile(Net(), etrax.D_RTRL, make("xs")[0], batch_size=B)
    return _kept["learner"]


def _loss() -> Callable:
    learner = _learner()
    if _kept.get("loss of") is not learner:
        _kept["loss of"], _kept["loss"] = learner, lambda x, y: jnp.mean((learner(x) - y) ** 2)
    return _kept["loss"]


def _events() -> str:
    path = tempfile.mkdtemp() + "/two.h5"
    etrax.data.write_events(path, [([1.0, 2.5] * u.ms, [0, 2], 0), ([0.5] * u.ms, [1], 1)], n_units=3)
    return path


_rng = np.random.default_rng(0)
ANEW: dict[str, Callable[[], Any]] = {
    "folder": tempfile.mkdtemp,
    "net": Net,
    "neuron": lambda: _ready(etrax.neurons.LIF(4)),
    "learner": _learner,
    "loss": _loss,
    "network": lambda: etrax.network.build(make("task"), make("recipe")),
}
ONCE: dict[str, Callable[[], Any]] = {
    "xs": lambda: jnp.asarray(_rng.random((T, B, N_IN)) < 0.3, brainstate.environ.dftype()),
    "ys": lambda: jnp.asarray(_rng.random((T, B, N_OUT)), brainstate.environ.dftype()),
    "task": lambda: etrax.tasks.get("patterns", duration=50.0 * u.ms),
    "dms": lambda: etrax.tasks.get("dms", delay=20.0 * u.ms),
    "recipe": lambda: etrax.tasks.Recipe(n_rec=6),
    "trial": lambda: etrax.network.record_trial(make("network"), make("task"), make("recipe")),
    "rasters": lambda: etrax.data.Rasters((_rng.random((8, 10, 3)) < 0.3).astype(int), np.arange(8) % 2, dt=1.0 * u.ms),
    "events": _events,
}


def _ready(module: Any) -> Any:
    module.init_state()
    return module


def make(name: str) -> Any:
    """What a name stands for."""
    if name in ANEW:
        return ANEW[name]()
    if name not in _kept:
        _kept[name] = ONCE[name]()
    return _kept[name]


def run(source: str) -> None:
    """Run a script; what it is warned of is an error, but for files that it leaves open."""
    asked = {name: make(name) for name in (*ONCE, *ANEW) if re.search(rf"\b{name}\b", source)}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)
        exec(compile(source, "<slip>", "exec"), {"__name__": "slip", **NAMES, **asked})
