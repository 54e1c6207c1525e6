"""Batches of points for a server, in the form of its REST interface.

MLflow's own client makes of each point two objects, a protocol buffer, and JSON that it parses again before it is sent.
Host, login, certificates, retries and errors are those of MLflow's client.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

ENDPOINT = "/api/2.0/mlflow/runs/log-batch"


class ServerBatches:
    """Writes batches to a server.

    Args:
        uri: The server's address.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def log_batch(
        self, run: str, metrics: Sequence[Any] = (), params: Sequence[Any] = (), tags: Sequence[Any] = ()
    ) -> None:
        """As the method of MLflow's client, with its errors, of one batch within MLflow's limits.

        Args:
            run: The run's id.
            metrics: MLflow's metrics.
            params: MLflow's parameters.
            tags: MLflow's tags.
        """
        from mlflow.utils.credentials import get_default_host_creds
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        batch = {
            "run_id": run,
            "metrics": [
                {"key": metric.key, "value": _json(metric.value), "timestamp": metric.timestamp, "step": metric.step}
                for metric in metrics
            ],
            "params": [{"key": param.key, "value": param.value} for param in params],
            "tags": [{"key": tag.key, "value": tag.value} for tag in tags],
        }
        response = http_request(get_default_host_creds(self._uri), ENDPOINT, "POST", json=batch)
        verify_rest_response(response, ENDPOINT)


def _json(value: float) -> float | str:
    """JSON has no number for what is none."""
    return "NaN" if math.isnan(value) else value
