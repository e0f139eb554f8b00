"""Compare methods on a task: the same network, trials and number of updates for each, over several seeds.

Every run that is finished is a file, so a comparison that was stopped goes on with those that are missing.
"""

from .plan import COMPARED, THRESHOLDS, Comparison

__all__ = ["COMPARED", "THRESHOLDS", "Comparison"]
