"""Prometheus, which scrapes the drivers of this machine as ``dashboards/prometheus.yaml`` says."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import expflow
from expflow.services.service import Service, ServiceCommand, answers

CONFIGURATION = Path(expflow.__file__).parents[1] / "dashboards" / "prometheus.yaml"


class PrometheusServer(Service):
    """Prometheus from the system's package, on the configuration of this checkout."""

    name = "prometheus"
    usual_port = 9090

    def missing(self) -> str:
        """What has to be installed for it; empty where it can be started."""
        if not CONFIGURATION.exists():
            return f"a checkout of expflow ({CONFIGURATION} is not there)"
        return "" if shutil.which("prometheus") else "Prometheus (Debian and Ubuntu: apt-get install prometheus)"

    def command(self, port: int, addresses: Mapping[str, str]) -> ServiceCommand:
        """How it is started.

        Args:
            port: The port that it listens on.
            addresses: Of no use here.
        """
        options = [f"--config.file={CONFIGURATION}", f"--storage.tsdb.path={self.folder.data(self.name)}"]
        return ServiceCommand(
            [str(shutil.which("prometheus")), *options, f"--web.listen-address=127.0.0.1:{port}"],
            f"http://127.0.0.1:{port}",
            lambda: answers(f"http://127.0.0.1:{port}/-/ready"),
        )
