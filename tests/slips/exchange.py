"""Figures of merit and NIR."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# benchmark_figures arguments swapped
# TypeError: `model` must be a brainstate.nn.Module | give an instance of the class of your network
etrax.benchmark_figures(xs, net)

# benchmark_figures one step
# ValueError: `xs` must have axes for time and samples, (T, B, ...), got shape (4,).
etrax.benchmark_figures(net, xs[0, 0])

# benchmark_figures a learner
# TypeError: `model` is the learner D_RTRL | give the network in it, `learner.model`
etrax.benchmark_figures(learner, xs)

# benchmark_figures empty
# ValueError: the sequences are empty (T = 0) | give at least one step
etrax.benchmark_figures(net, xs[:0])

# benchmark_figures class
# TypeError: `model` must be a brainstate.nn.Module, got the class Net | make an instance of it, e.g. `Net(...)`
etrax.benchmark_figures(Net, xs)

# benchmark_figures a batch
# TypeError: `xs` must be the inputs of a batch, got a tuple | write `batch.xs`
etrax.benchmark_figures(network, next(task.test(2)))

# to_nir class
# TypeError: `model` must be a brainstate.nn.Module, got the class Net | make an instance of it, e.g. `Net(...)`
etrax.to_nir(Net, jnp.zeros(4))

# to_nir swapped
# TypeError: `model` must be a brainstate.nn.Module | give an instance of the class of your network
etrax.to_nir(jnp.zeros(4), net)

# to_nir batch not said
# TypeError: That was `to_nir`, which runs one step of the model on an input of shape (3, 4) | `batch_size` exactly if it has a batch axis
etrax.to_nir(net, xs[0])

# to_nir batch wrong
# ValueError: `batch_size` is 4 but `x0` has shape (3, 4) | the batch axis comes first
etrax.to_nir(net, xs[0], batch_size=4)

# to_nir adaptive neuron
# ValueError: NIR cannot express the neurons `neurons` (ALIF) | it has LIF, IF, CubaLIF only
etrax.to_nir(network, jnp.zeros(20))

# to_nir discretization
# ValueError: `discretization` must be 'exact' or 'euler', got 'forward'.
etrax.to_nir(net, jnp.zeros(4), discretization="forward")

# to_nir path missing folder
# FileNotFoundError: lies in no folder: make
class Two(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        self.neu = LIF(3)
        self.syn = DeltaProj(comm=Linear(2, 3, w_init=jnp.full((2, 3), 2.0) * u.mV, b_init=None), post=self.neu)
    def update(self, x):
        self.syn(x)
        return self.neu()
m = Two(); brainstate.nn.init_all_states(m)
etrax.to_nir(m, jnp.zeros(2), path=folder + "/no/net.nir")

# to_nir of a learner
# TypeError: `model` is the learner D_RTRL | give the network in it, `learner.model`
etrax.to_nir(learner, jnp.zeros(4))

# from_nir missing
# ValueError: is not a file: give a file that NIR has written
etrax.from_nir(folder + "/net.nir")

# from_nir text file
# ValueError: cannot be read | give a file that NIR has written
open(folder + "/net.nir", "w").write("x")
etrax.from_nir(folder + "/net.nir")

# from_nir weights file
# ValueError: cannot be read | give a file that NIR has written
np.savez(folder + "/net.npz", a=np.zeros(3))
etrax.from_nir(folder + "/net.npz")

# from_nir of a network
# TypeError: `graph` must be a nir.NIRGraph or the path of one, got Net.
etrax.from_nir(net)

# from_nir of a dict
# TypeError: `graph` must be a nir.NIRGraph or the path of one, got dict.
etrax.from_nir({"nodes": []})

# from_nir a node
# TypeError: `graph` must be a nir.NIRGraph or the path of one, got Linear.
import nir
etrax.from_nir(nir.Linear(np.ones((3, 2))))

# from_nir dt not set
# ValueError: `dt` is not set | put the call inside `with brainstate.environ.context(dt=1.0
import nir
with brainstate.environ.context(dt=None):
    etrax.from_nir(nir.NIRGraph.from_list(nir.Linear(np.ones((3, 2)))))
""")
