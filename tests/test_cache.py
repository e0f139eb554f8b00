"""What was compiled is found again by the next process: the same network gives the same program, whatever the hash seed."""

import json
import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import collections, json, sys
sys.path.insert(0, sys.argv[1])
import conftest, brainstate, brainunit, jax
seen = collections.Counter()
jax.monitoring.register_event_listener(lambda event, **_: seen.update([event.rpartition("/")[2]]))
with brainstate.environ.context(dt=1.0 * brainunit.ms):
    from test_gradient import Run
    Run("recurrent lif").grad()
print(json.dumps([seen["cache_hits"], seen["cache_misses"]]))
"""


def test_a_second_process_compiles_nothing(tmp_path):
    counts = []
    for seed in "12":
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(tmp_path), "PYTHONHASHSEED": seed}
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(Path(__file__).parent)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        counts.append(json.loads(run.stdout.splitlines()[-1]))
    (first_hits, first_misses), (hits, misses) = counts
    assert first_misses > 5
    assert misses == 0
    assert hits == first_hits + first_misses
