"""Whether an installed etrax is whole and works; run by `make dist` in a clean environment, from outside the checkout.

``python -I try_dist.py CHECKOUT``: the checkout says which files there must be, and must not be what is imported.
"""

import importlib.metadata
import sys
import sysconfig
from pathlib import Path

import brainstate
import braintools
import brainunit as u
import jax.numpy as jnp

import etrax

FOLDERS = {"plugin": "", "neurons": "neurons", "synapses": "synapses"}


def files_of(checkout):
    """Names of the files of the package, as they are to be installed."""
    found = {
        Path("etrax", inside, path.relative_to(checkout / folder))
        for folder, inside in FOLDERS.items()
        for path in (checkout / folder).rglob("*.py")
    }
    return {str(path) for path in found} | {"etrax/py.typed"}


class Net(brainstate.nn.Module):
    """A recurrent population with a leaky readout."""

    def __init__(self, n_in, n, n_out):
        super().__init__()
        self.neu = etrax.neurons.ALIF(n, tau=20 * u.ms)
        weights = braintools.init.KaimingNormal(scale=8.0, unit=u.mS)
        self.syn = etrax.synapses.AlignPostProj(
            comm=brainstate.nn.Linear(n_in + n, n, w_init=weights, b_init=None),
            syn=etrax.synapses.Expon(n),
            out=etrax.synapses.CUBA(),
            post=self.neu,
        )
        self.out = etrax.neurons.LeakyReadout(n, n_out, pre=self.neu)

    def update(self, x):
        self.syn(jnp.concatenate([x, self.neu.get_spike()], axis=-1))
        return self.out(self.neu())


def main(checkout):
    home = Path(etrax.__file__).resolve().parent
    site = Path(sysconfig.get_path("purelib")).resolve()
    assert home == site / "etrax", f"etrax was imported from {home}, not from {site}"
    installed = {str(path) for path in importlib.metadata.files("etrax") if path.parts[0] == "etrax"}
    installed = {path for path in installed if not path.endswith(".pyc")}
    assert installed == files_of(checkout), f"missing or too many: {sorted(installed ^ files_of(checkout))}"
    for name in etrax.__all__:
        getattr(etrax, name)
    with brainstate.environ.context(dt=1.0 * u.ms), brainstate.random.seed_context(0):
        xs = (brainstate.random.rand(50, 8, 10) < 0.3).astype(float)
        ys = jnp.arange(8) % 2
        options = etrax.TrainOptions(epochs=3, learning_rate=1e-2)
        history = etrax.train(Net(10, 20, 2), [(xs, ys)] * 4, options).history
    losses = [row["train_loss"] for row in history]
    assert losses[-1] < losses[0], f"a training on 4 batches does not lower its loss: {losses}"
    print(f"etrax {etrax.__version__} in {home}: {len(installed)} files, loss {losses[0]:.3f} to {losses[-1]:.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
