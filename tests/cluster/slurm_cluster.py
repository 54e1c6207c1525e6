"""A real Slurm cluster on this machine: a controller and two nodes, all on loopback."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from tests.cluster.conftest import free_ports
from tests.debian_packages import need_programs

_CONFIGURATION = """
ClusterName=expflow
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmctldAddr=127.0.0.1
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
MpiDefault=none
ReturnToService=2
KillWait=20
OverTimeLimit=0
MinJobAge=300
SchedulerParameters=sched_interval=1,batch_sched_delay=0
CommunicationParameters=NoAddrCache,NoCtldInAddrAny,NoInAddrAny
NodeName=one,two NodeHostname={host} NodeAddr=127.0.0.1 Port={one},{two} CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=one,two Default=YES MaxTime=INFINITE State=UP
"""


class SlurmCluster:
    """Starts the daemons, and ends them.

    Attributes:
        environment: What Slurm's commands need to find them.
    """

    def __init__(self) -> None:
        need_programs("slurm-wlm munge", "slurmctld", "slurmd", "munged", "sbatch", "scontrol")
        # Not under tmp_path: a socket's path must be short, and munge's user must reach it.
        self.folder = Path(tempfile.mkdtemp(prefix="xs-", dir="/tmp"))
        self.folder.chmod(0o711)
        self.environment = {"SLURM_CONF": str(self.folder / "slurm.conf")}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        munge = self.folder / "munge"
        munge.mkdir(mode=0o700)
        (munge / "key").write_bytes(secrets.token_bytes(256))
        (munge / "key").chmod(0o400)
        for path in (munge, munge / "key"):
            shutil.chown(path, "munge", "munge")
        controller, one, two = free_ports(3)
        (self.folder / "state").mkdir()
        for node in ("one", "two"):
            (self.folder / f"spool-{node}").mkdir()
        (self.folder / "slurm.conf").write_text(
            _CONFIGURATION.format(
                host=socket.gethostname(), folder=self.folder, controller=controller, one=one, two=two
            )
        )
        places = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={munge / name}" for option, name in places.items()]
        as_munge = ["setpriv", "--reuid", "munge", "--regid", "munge", "--clear-groups"]
        self._run(*as_munge, "munged", "--foreground", "--force", *options)
        self._until(lambda: (munge / "socket").exists(), "munged")
        self._run("slurmctld", "-D")
        self._run("slurmd", "-D", "-N", "one")
        self._run("slurmd", "-D", "-N", "two")
        self._until(lambda: self.output("sinfo", "--noheader", "--format=%T %D").strip() == "idle 2", "slurmd")

    def output(self, *command: str) -> str:
        done = subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=60
        )
        return done.stdout

    def _run(self, *command: str) -> None:
        with (self.folder / "daemons.log").open("ab") as log:
            self._daemons.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, **self.environment, "PATH": f"{os.environ['PATH']}:/usr/sbin"},
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                )
            )

    def _until(self, ready: object, what: str, patience: float = 90.0) -> None:
        end = time.monotonic() + patience
        while not ready():  # type: ignore[operator]
            log = (self.folder / "daemons.log").read_text()
            assert time.monotonic() < end, f"{what} did not come up:\n{log}"
            assert all(daemon.poll() is None for daemon in self._daemons), log
            time.sleep(0.2)

    def stop(self) -> None:
        self.output("scancel", "--me")
        end = time.monotonic() + 60
        while self.output("squeue", "--noheader") and time.monotonic() < end:
            time.sleep(0.5)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in reversed(self._daemons):
            try:
                daemon.wait(20)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
