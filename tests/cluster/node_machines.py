"""Machines of a Ray cluster on this one: namespaces of network, processes and mounts, with no disk in common.

A machine sees this one's files, as nodes of one image do, apart from a folder that each has to itself: there lie its
cache and what Ray writes. They are joined by a bridge that leads nowhere else.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.debian_packages import need_programs

_INIT = """
hostname {name} && mount -t tmpfs -o size={size} machine {own} && mount -t proc proc /proc && echo up
while :; do sleep 9; done
"""  # as a shell it buries orphans
ENDED = 20.0
"""Seconds that what was killed may take."""


@dataclass
class Machine:
    """One of the machines.

    Attributes:
        name: Its name.
        address: Its address on the bridge.
        init: The process whose death takes all others of the machine along, like a power cut.
        pid: That process's number here.
        link: The bridge's end of its cable.
        own: The folder that only it sees, by the name that it has there.
        clock: Environment of its processes, whose clock may be wrong.
        started: What was started on it, seen from here.
    """

    name: str
    address: str
    init: subprocess.Popen[bytes]
    pid: int
    link: str
    own: Path
    clock: Mapping[str, str] = field(default_factory=dict)
    started: list[subprocess.Popen[Any]] = field(default_factory=list)

    def seen(self, path: Path) -> Path:
        """A path of the machine's own as this machine sees it."""
        return Path(f"/proc/{self.pid}/root{path}")

    def lose_power(self) -> None:
        """SIGKILL to all of it at once."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.init.wait(ENDED)
        for process in self.started:
            process.communicate(timeout=ENDED)

    def processes(self, word: str) -> list[int]:
        """Numbers, seen from here, of the machine's processes whose command line has a word."""
        here = Path(f"/proc/{self.pid}/ns/pid").readlink()
        numbers = []
        for entry in Path("/proc").iterdir():
            with suppress(OSError):
                if entry.name.isdigit() and (entry / "ns/pid").readlink() == here:
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                    numbers += [int(entry.name)] if word in line else []
        return numbers


def _enter(machine: Machine) -> list[str]:
    return ["nsenter", f"--target={machine.pid}", "--net", "--mount", "--pid", "--uts"]


def _inherited() -> dict[str, str]:
    """This process's environment, without the switch by which tests keep Ray on loopback: nodes have to be reached."""
    return {name: value for name, value in os.environ.items() if name != "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"}


class NodeMachines:
    """Makes machines, and a Ray cluster of them.

    Attributes:
        folder: A folder that all machines see.
        own: The folder of which each machine has another one.
        gateway: This machine's address on the bridge.
    """

    def __init__(self) -> None:
        need_programs("iproute2 util-linux", "ip", "unshare", "nsenter")
        if os.geteuid():
            pytest.skip("only root may make namespaces")
        self.folder = Path(tempfile.mkdtemp(prefix="xm-", dir="/tmp"))
        self.own = self.folder / "own"
        self.own.mkdir()
        (self.folder / "token").touch(mode=0o600)
        (self.folder / "token").write_text(secrets.token_hex(32))
        number = os.getpid() % 200 + 20
        self._net, self._tag = f"10.218.{number}", f"xm{os.getpid() % 10000}"
        self.gateway = f"{self._net}.1"
        self.head = ""
        self.more_variables: dict[str, str] = {}
        self._machines: list[Machine] = []
        self._ip("link", "add", self._tag, "type", "bridge")
        self._ip("addr", "add", f"{self.gateway}/24", "dev", self._tag)
        self._ip("link", "set", self._tag, "up")

    @property
    def running(self) -> list[Machine]:
        """The machines that have power."""
        return [machine for machine in self._machines if machine.init.poll() is None]

    def make(self, name: str, size: str = "400m", clock: Mapping[str, str] | None = None) -> Machine:
        """Make a machine.

        Args:
            name: Its name.
            size: Of the disk that it has to itself.
            clock: Environment by which its processes' clock is wrong.
        """
        number = len(self._machines) + 11
        address, link, namespace = f"{self._net}.{number}", f"{self._tag}n{number}", f"{self._tag}n{number}"
        self._ip("netns", "add", namespace)
        self._ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self._ip("link", "set", link, "master", self._tag, "up")
        self._ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            self._ip("-n", namespace, "link", "set", device, "up")
        self._ip("-n", namespace, "route", "add", "default", "via", self.gateway)  # Ray looks which way that is
        inside = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "bash", "-c"]
        script = _INIT.format(name=name, own=self.own, size=size)
        with (self.folder / f"{name}.log").open("ab") as log:
            init = subprocess.Popen(
                ["ip", "netns", "exec", namespace, *inside, script],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert init.stdout is not None
        with init.stdout:
            assert init.stdout.readline() == b"up\n"
        pid = int(Path(f"/proc/{init.pid}/task/{init.pid}/children").read_text().split()[0])
        machine = Machine(name, address, init, pid, link, self.own, clock or {})
        self._machines.append(machine)
        return machine

    def start(
        self, machine: Machine, *command: str, variables: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> subprocess.Popen[str]:
        """Start a program on a machine; its output can be read."""
        process = subprocess.Popen(
            [*_enter(machine), f"--wd={cwd or self.folder}", *command],
            env={**_inherited(), **self.variables(), **machine.clock, **(variables or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        machine.started.append(process)
        return process

    def variables(self) -> dict[str, str]:
        """What every process of the cluster gets."""
        return {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.folder / "token"),
            "RAY_enable_metrics_collection": "0",
            "RAY_prestart_worker_first_driver": "0",
            "EXPFLOW_CACHE": str(self.own / "cache"),
            "XDG_CACHE_HOME": str(self.own / "xdg"),
            "TMPDIR": str(self.own),
            "OMP_NUM_THREADS": "1",
            **self.more_variables,
        }

    def start_head(self, machine: Machine, cpus: int, *, takes_jobs: bool = False) -> None:
        """Start the cluster's head on a machine."""
        self.head = f"{machine.address}:6399"
        jobs = ["--include-dashboard=true", f"--dashboard-host={machine.address}"]
        options = jobs if takes_jobs else ["--include-dashboard=false"]
        self._ray(machine, "--head", "--port=6399", f"--num-cpus={cpus}", *options)
        self._until_head_listens(machine)

    def join(self, machine: Machine, cpus: int) -> None:
        """Have a machine join the cluster; it takes a moment after this."""
        self._ray(machine, f"--address={self.head}", f"--num-cpus={cpus}")

    def _ray(self, machine: Machine, *words: str) -> None:
        own = [f"--node-ip-address={machine.address}", "--object-store-memory=80000000", "--disable-usage-stats"]
        own += [f"--temp-dir={self.own}/r"] if "--head" in words else []
        ray = [str(Path(sys.executable).with_name("ray")), "start", *words, *own, "--block"]
        with (self.folder / f"{machine.name}.log").open("ab") as log:
            process = subprocess.Popen(
                [*_enter(machine), *ray],
                env={**_inherited(), **self.variables(), **machine.clock},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
            machine.started.append(process)

    def _until_head_listens(self, machine: Machine) -> None:
        end = time.monotonic() + 60
        while True:
            try:
                socket.create_connection((machine.address, 6399), timeout=5).close()
            except OSError:
                assert time.monotonic() < end, (self.folder / f"{machine.name}.log").read_text()
                time.sleep(0.2)
            else:
                return

    def drain(self, head: Machine, machine: Machine, seconds: int) -> None:
        """Tell Ray, as whoever rents a machine out does, that one is taken away soon; it goes on until then."""
        (raylet,) = machine.processes("raylet/raylet")
        words = Path(f"/proc/{raylet}/cmdline").read_bytes().decode().split("\0")
        node = next(word.partition("=")[2] for word in words if word.startswith("--node_id="))
        ray = [str(Path(sys.executable).with_name("ray")), "drain-node", f"--address={self.head}", f"--node-id={node}"]
        ray += ["--reason=DRAIN_NODE_REASON_PREEMPTION", "--reason-message=it is needed elsewhere"]
        process = self.start(head, *ray, f"--deadline-remaining-seconds={seconds}")
        output = process.communicate(timeout=60)[0]
        assert process.returncode == 0, output

    def wait_joined(self) -> None:
        """Wait until all machines are nodes of the cluster."""
        end = time.monotonic() + 120
        for machine in self._machines:
            while "Ray runtime started" not in (self.folder / f"{machine.name}.log").read_text():
                assert time.monotonic() < end, (self.folder / f"{machine.name}.log").read_text()
                time.sleep(0.2)

    def cut(self, machine: Machine) -> None:
        """Pull a machine's cable."""
        self._ip("link", "set", machine.link, "down")

    def mend(self, machine: Machine) -> None:
        """Plug it in again."""
        self._ip("link", "set", machine.link, "up")

    def _ip(self, *words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True, timeout=60)

    def stop(self) -> None:
        for machine in self._machines:
            machine.lose_power()
            subprocess.run(["ip", "netns", "del", machine.link], capture_output=True, timeout=60)
        subprocess.run(["ip", "link", "del", self._tag], capture_output=True, timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)
