"""Compare methods on a task: the same network, trials and number of updates for each, over several seeds.

Every run that is finished is a file, so a comparison that was stopped goes on with those that are missing.

Examples
--------
>>> import brainstate, brainunit as u, etrax.tasks
>>> from etrax.comparison import Comparison
>>> with brainstate.environ.context(dt=1.0 * u.ms):                          # doctest: +SKIP
...     plan = Comparison(etrax.tasks.get("digits"), "etrax-experiment-digits", methods=("d_rtrl", "bptt"), seeds=3)
...     results = plan.run()
>>> results["methods"]["d_rtrl"]["test_accuracy"]["mean"]                    # doctest: +SKIP
0.956
"""

from .plan import COMPARED, THRESHOLDS, Comparison

__all__ = ["COMPARED", "THRESHOLDS", "Comparison"]
