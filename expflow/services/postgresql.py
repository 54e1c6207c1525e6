"""PostgreSQL, in which MLflow keeps runs and metrics."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

from expflow.services.service import Service, ServiceCommand, run_once

USER = "expflow"
DATABASE = "postgres"  # the one that a new cluster comes with


class PostgreSQL(Service):
    """PostgreSQL from the system's package, for one user, with a password and over loopback alone."""

    name = "postgresql"
    stop_signal = signal.SIGINT  # ends without waiting for its clients to leave

    def missing(self) -> str:
        """What has to be installed for it; empty where it can be started."""
        return "" if _programs() else "PostgreSQL (Debian and Ubuntu: apt-get install postgresql)"

    def command(self, port: int, addresses: Mapping[str, str]) -> ServiceCommand:
        """How it is started; its cluster of databases is made where there is none.

        Args:
            port: The port that it listens on.
            addresses: Of no use here.

        Raises:
            ServerUnreachable: The cluster cannot be made.
        """
        programs, data, user = _programs() or Path(), self.folder.data(self.name) / "data", _service_user()
        if not (data / "PG_VERSION").exists():
            self._make_cluster(programs / "initdb", data, user)
        command = [programs / "postgres", "-D", data, "-p", port, "-c", "listen_addresses=127.0.0.1"]
        command += ["-c", "unix_socket_directories="]
        ready = [str(programs / "pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={port}"]
        return ServiceCommand(
            [str(word) for word in command],
            f"postgresql://127.0.0.1:{port}/{DATABASE}",
            lambda: subprocess.run(ready, check=False).returncode == 0,  # noqa: S603 - PostgreSQL's own
            user=user,
        )

    def _make_cluster(self, initdb: Path, data: Path, user: str | None) -> None:
        if data.exists():  # left half made
            shutil.rmtree(data)
        password = data.with_name("password")
        password.touch(mode=0o600)
        password.write_text(self.folder.passwords[self.name])
        if user is not None:
            for path in (data.parent, password):
                shutil.chown(path, user)
        try:
            command = [str(initdb), f"--pgdata={data}", f"--username={USER}", f"--pwfile={password}"]
            command += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
            run_once(
                command,
                user=user,
                what=f"making a cluster of databases in {data} as user {user or pwd.getpwuid(os.getuid()).pw_name}",
            )
        finally:
            password.unlink()


def _programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs; Debian keeps them off the path."""
    if on_path := shutil.which("postgres"):
        return Path(on_path).resolve().parent
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    return versions[-1].parent if versions else None


def _service_user() -> str | None:
    """Root must not run it: then it is the package's own user, or nobody."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
