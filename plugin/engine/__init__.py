"""From what modules register to gradients and eligibility traces, chunk by chunk."""
