"""Modules of one's own, `check_jacobian`, `adapt`."""

from .table import read

__all__ = ["ROWS"]

ROWS = read("""
# own neuron whose initial returns an array
# TypeError: `initial(batch_size)` of `Mine` must be a dict | return e.g. `{"V": ...}`
class Mine(etrax.Neuron):
    def initial(self, batch_size=None):
        return jnp.zeros(self.varshape) * u.mV
    def transition(self, V, *, current, delta):
        return {"V": V + delta}
    def get_spike(self, V=None):
        return self.spk_fun((self.V.value if V is None else V) / u.mV)
n = Mine(4); n.init_state()

# own neuron whose transition forgets return
# TypeError: `transition(...)` of `Mine` must be a dict, got None | return e.g. `{'V': ...}`
class Mine(etrax.Neuron):
    def initial(self, batch_size=None):
        return {"V": jnp.zeros(self.varshape) * u.mV}
    def transition(self, V, *, current, delta):
        V = V + delta
    def get_spike(self, V=None):
        return self.spk_fun((self.V.value if V is None else V) / u.mV)
n = Mine(4); n.init_state(); n(1 * u.mA)

# own neuron whose transition returns an array
# TypeError: `transition(...)` of `Mine` must be a dict | return e.g. `{'V': ...}`
class Mine(etrax.Neuron):
    def initial(self, batch_size=None):
        return {"V": jnp.zeros(self.varshape) * u.mV}
    def transition(self, V, *, current, delta):
        return V + delta
    def get_spike(self, V=None):
        return self.spk_fun((self.V.value if V is None else V) / u.mV)
n = Mine(4); n.init_state(); n(1 * u.mA)

# own neuron whose transition has other state names
# ValueError: `transition` of Mine gives v, but its states are V | return each of them, by the names that `initial` gives
class Mine(etrax.Neuron):
    def initial(self, batch_size=None):
        return {"V": jnp.zeros(self.varshape) * u.mV}
    def transition(self, V, *, current, delta):
        return {"v": V + delta}
    def get_spike(self, V=None):
        return self.spk_fun((self.V.value if V is None else V) / u.mV)
n = Mine(4); n.init_state(); n(1 * u.mA)

# own neuron whose transition drops the unit
# ValueError: the state `V` of Mine was in mV, but its step makes it no unit | give its initial value and what enters it the unit that
class Mine(etrax.Neuron):
    def initial(self, batch_size=None):
        return {"V": jnp.zeros(self.varshape) * u.mV}
    def transition(self, V, *, current, delta):
        return {"V": (V + delta) / u.mV}
    def get_spike(self, V=None):
        return self.spk_fun((self.V.value if V is None else V) / u.mV)
n = Mine(4); n.init_state(); n(1 * u.mA)

# own neuron whose transition takes no delta
# TypeError: Mine.transition() got an unexpected keyword argument 'delta'
class Mine(etrax.Neuron):
    def initial(self, batch_size=None):
        return {"V": jnp.zeros(self.varshape) * u.mV}
    def transition(self, V, *, current):
        return {"V": V}
    def get_spike(self, V=None):
        return self.spk_fun((self.V.value if V is None else V) / u.mV)
n = Mine(4); n.init_state(); n(1 * u.mA)

# own neuron whose get_spike has a unit
# TypeError: That was in `get_spike` of Mine: `spk_fun` takes a number without a unit
class Mine(etrax.Neuron):
    def initial(self, batch_size=None):
        return {"V": jnp.zeros(self.varshape) * u.mV}
    def transition(self, V, *, current, delta):
        return {"V": V + delta}
    def get_spike(self, V=None):
        return self.spk_fun((self.V.value if V is None else V) - 1 * u.mV)
n = Mine(4); n.init_state(); n(1 * u.mA)

# own neuron that mixes neurons
# ValueError: `transition` of Mine mixes neurons | the new V of one neuron depends on V of another. A
class Mine(LIF):
    def transition(self, V, *, current, delta):
        return {"V": V + delta + u.math.mean(V)}
etrax.check_jacobian(Mine(4))

# own neuron with jump of the state in Python if
# ValueError: That was in `transition` of Mine, which got V in mV of shape (4,)
class Mine(LIF):
    def transition(self, V, *, current, delta):
        if V > self.V_th:
            V = self.V_reset
        return {"V": V + delta}
n = Mine(4); n.init_state(); n(1 * u.mA)

# current not called
# TypeError: That was in `transition` of Mine, which got V in mV of shape (4,), current in mA
class Mine(LIF):
    def transition(self, V, *, current, delta):
        return {"V": V + 1 * u.ohm * current + delta}
n = Mine(4); n.init_state(); n(1 * u.mA)

# Constant without a default and with a number
# TypeError: non-default argument follows default argument
class Mine(LIF):
    V_x: object = etrax.Constant(1.0)

# Constant limit a name of nothing
# TypeError: `V_x` of Mine must be above `nothing`, which it does not have | name a constant of it
class Mine(LIF):
    V_x: object = etrax.Constant(default=1.0 * u.ms, above="nothing")
Mine(4)

# Constant called as pytorch Parameter
# TypeError: non-default argument follows default argument
class Mine(LIF):
    V_x: object = etrax.Constant(5.0 * u.ms)

# check_jacobian of a class
# TypeError: `module` must be an etrax neuron, synapse, filter or output, got
etrax.check_jacobian(LIF)

# check_jacobian of a network
# TypeError: `module` must be an etrax neuron, synapse, filter or output, got Net.
etrax.check_jacobian(Net(4, 6, 2))

# check_jacobian points zero
# ValueError: `points` must be a whole number above 0, got 0.
etrax.check_jacobian(LIF(4), points=0)

# check_jacobian rtol string
# ValueError: `rtol` must be a number above 0, got '1e-9'.
etrax.check_jacobian(LIF(4), rtol="1e-9")

# check_jacobian rtol negative
# ValueError: `rtol` must be a number above 0, got -1.0.
etrax.check_jacobian(LIF(4), rtol=-1.0)

# adapt a class
# TypeError: `module` must be a brainstate.nn.Module with a method `update`, got
etrax.adapt(LIF)

# adapt one of ours
# TypeError: `module` LIF is an etrax module already | use it as it is
etrax.adapt(LIF(4))

# adapt a function
# TypeError: `module` must be a brainstate.nn.Module with a method `update`, got
etrax.adapt(lambda x: x)

# adapt wrong kind
# ValueError: `kind` must be 'neuron' or 'synapse', got 'neurons'.
class Leaky(brainstate.nn.Dynamics):
    def init_state(self, batch_size=None):
        self.V = brainstate.HiddenState(jnp.zeros(self.varshape) * u.mV)
    def update(self, x=0.0 * u.mA):
        self.V.value = 0.9 * self.V.value
        return self.V.value
etrax.adapt(Leaky(3), kind="neurons")
""")
