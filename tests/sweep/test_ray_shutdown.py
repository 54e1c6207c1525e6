"""Ray is shut down beside a driver that goes on, and that lets references to Ray's objects go meanwhile."""

from __future__ import annotations

import subprocess
import sys

import pytest

_LETS_REFERENCES_GO = """
import ray, time
from expflow.sweep.ray_shutdown import holds_worker, shut_down_meanwhile, wait_for_shutdown

assert not holds_worker()
ray.init("local", num_cpus=1, include_dashboard=False, logging_level="ERROR", _node_ip_address="127.0.0.1")
assert holds_worker()
references = [ray.put(number) for number in range(2000)]
shut_down_meanwhile(ray.shutdown)
assert not holds_worker()
while references:
    references.pop()
    time.sleep(0.0001)
wait_for_shutdown()
print("ended by itself")
"""


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_references_that_are_let_go_while_ray_is_shut_down_do_not_end_the_process() -> None:
    result = subprocess.run([sys.executable, "-c", _LETS_REFERENCES_GO], capture_output=True, text=True, timeout=200)
    assert (result.returncode, result.stdout) == (0, "ended by itself\n"), result.stderr[-2000:]
