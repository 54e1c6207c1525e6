"""Two machines with sshd: network namespaces of this one, joined by a bridge that leads nowhere else."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.debian_packages import need_programs

LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
"""As the kernel writes it."""
_SSHD = """
Port 22
ListenAddress {address}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
PidFile none
"""
_CLIENT = """
Host *
  User root
  IdentityFile {folder}/key
  UserKnownHostsFile {folder}/known
  StrictHostKeyChecking accept-new
  LogLevel ERROR
"""


class SshMachines:
    """Two machines, ``one`` and ``two``, with keys of their own.

    Attributes:
        client_file: Settings of ssh that lead to them.
    """

    def __init__(self) -> None:
        need_programs("openssh-server openssh-client iproute2", "sshd", "ssh", "ssh-keygen", "ip")
        if os.geteuid():
            pytest.skip("only root may make network namespaces")
        self.folder = Path(tempfile.mkdtemp(prefix="xh-", dir="/tmp"))
        self.client_file = self.folder / "client"
        number = os.getpid() % 200 + 20
        self._net, self._tag = f"10.219.{number}", f"xf{os.getpid() % 10000}"
        self._daemons: list[subprocess.Popen[bytes]] = []

    def start(self) -> None:
        for name in ("key", "host_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True, timeout=60
            )
        Path("/run/sshd").mkdir(exist_ok=True)
        self._ip("link", "add", self._tag, "type", "bridge")
        self._ip("addr", "add", f"{self._net}.1/24", "dev", self._tag)
        self._ip("link", "set", self._tag, "up")
        text = _CLIENT.format(folder=self.folder)
        for number, name in ((11, "one"), (12, "two")):
            address = f"{self._net}.{number}"
            self._machine(f"{self._tag}{name}", f"{self._tag}{number}", address)
            text = f"Host {name}\n  HostName {address}\n{text}"
        self.client_file.write_text(text)

    def _machine(self, namespace: str, link: str, address: str) -> None:
        self._ip("netns", "add", namespace)
        self._ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", namespace)
        self._ip("link", "set", link, "master", self._tag, "up")
        self._ip("-n", namespace, "addr", "add", f"{address}/24", "dev", "eth0")
        for device in ("eth0", "lo"):
            self._ip("-n", namespace, "link", "set", device, "up")
        settings = self.folder / f"{namespace}.conf"
        settings.write_text(_SSHD.format(address=address, folder=self.folder))
        with (self.folder / "sshd.log").open("ab") as log:
            sshd = ["ip", "netns", "exec", namespace, "/usr/sbin/sshd", "-D", "-e", "-f", settings]
            self._daemons.append(subprocess.Popen(sshd, stdin=subprocess.DEVNULL, stdout=log, stderr=log))
        end = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((address, 22), timeout=5).close()
            except OSError:
                assert time.monotonic() < end, (self.folder / "sshd.log").read_text()
                time.sleep(0.1)
            else:
                return

    def processes(self) -> list[str]:
        """Command lines of what runs on the machines, sshd apart."""
        numbers: list[str] = []
        for name in ("one", "two"):
            numbers += self._ip("netns", "pids", f"{self._tag}{name}").split()
        lines = []
        for number in numbers:
            try:
                words = Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            lines.append(b" ".join(words).decode(errors="replace"))
        return [line for line in lines if line and "sshd" not in line]

    def listening(self) -> dict[str, set[int]]:
        """Address of a machine -> the ports on which something other than sshd listens for others."""
        ports: dict[str, set[int]] = {}
        for name, number in (("one", 11), ("two", 12)):
            table = self._ip("netns", "exec", f"{self._tag}{name}", "cat", "/proc/net/tcp", "/proc/net/tcp6")
            rows = [line.split() for line in table.splitlines() if " 0A " in line]
            places = [row[1].split(":") for row in rows]
            beyond = {int(port, 16) for host, port in places if host not in LOOPBACK}
            ports[f"{self._net}.{number}"] = beyond - {22}
        return ports

    def _ip(self, *words: str) -> str:
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=60).stdout

    def stop(self) -> None:
        for daemon in self._daemons:
            daemon.terminate()
            daemon.wait()
        for name in ("one", "two"):
            subprocess.run(["ip", "netns", "del", f"{self._tag}{name}"], capture_output=True, timeout=60)
        subprocess.run(["ip", "link", "del", self._tag], capture_output=True, timeout=60)
        shutil.rmtree(self.folder, ignore_errors=True)
