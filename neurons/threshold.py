r"""Spikes of neurons with one fixed threshold.

z = H((V - V_{th}) / (V_{th} - V_{reset}))
"""

from __future__ import annotations

from etrax.contract import Neuron

__all__ = ["FixedThreshold", "hard_only"]


def hard_only(neuron: Neuron, who: str, to: str = "V_reset") -> None:
    """A ValueError if a neuron whose upstroke only a reset to the constant ``to`` can end has another reset."""
    if neuron.spk_reset != "hard":
        raise ValueError(
            f"`spk_reset` is {neuron.spk_reset!r}, but {who} resets to `{to}`: write 'hard'. A soft reset "
            "would leave the potential on the upstroke of its spike."
        )


class FixedThreshold(Neuron):
    """Base class of neurons whose spike depends on nothing but ``V``, ``V_th`` and ``V_reset``."""

    @property
    def span(self):
        """The unit in which the distance from threshold is counted."""
        return self.V_th - self.V_reset

    def get_spike(self, V=None, **others):
        """Spikes at potential ``V`` (the current one if not given), shape ``([batch,] *varshape)``."""
        V = self.V.value if V is None else V
        return self.spk_fun((V - self.V_th) / self.span)

    def spike_jacobian(self, V, **others) -> dict:
        """See `Neuron.spike_jacobian`."""
        return {("z", "V"): self.surrogate((V - self.V_th) / self.span) / self.span}

    def kept(self, V, slope):
        """Derivative of the potential after the reset with respect to the one before, if the spike has this ``slope``.

        See equation (45) of docs/mathematics.md.
        """
        size = self.reset_size(V)
        return 1.0 if size is None else 1.0 - size * slope
