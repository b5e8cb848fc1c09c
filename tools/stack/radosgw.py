"""A second real S3 server for tests: Ceph's object gateway over TLS, on a store in memory, all on loopback.

Where moto is lenient, this is strict: it checks signatures, expiries and ``Content-MD5``, and it answers as the stores
do that people run themselves. It needs Ceph's programs (``tools/radosgw/install.sh``), no root, and 600 MB of memory.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from tools.stack.process import PartFailedError, ServerProcess, free_port, wait_until
from tools.stack.s3 import S3Server

__all__ = ["PROGRAMS", "RadosGateway", "is_installed"]

PROGRAMS = ("radosgw", "radosgw-admin", "ceph", "ceph-mon", "ceph-osd", "ceph-authtool", "monmaptool")

# One monitor, one object store daemon without replicas, no manager: small and quick to start, and nothing outlives it.
_CONFIGURATION = """\
[global]
fsid = {fsid}
mon_host = v2:127.0.0.1:{mon_port}
mon_initial_members = a
public_addr = 127.0.0.1
cluster_addr = 127.0.0.1
ms_bind_ipv6 = false
ms_bind_msgr1 = false
auth_cluster_required = cephx
auth_service_required = cephx
auth_client_required = cephx
keyring = {folder}/keyring
mon_data = {folder}/mon
mon_allow_pool_size_one = true
mon_max_pg_per_osd = 1000
mon_warn_on_insecure_global_id_reclaim = false
osd_data = {folder}/osd
osd_objectstore = memstore
memstore_device_bytes = 2147483648
osd_max_object_name_len = 460
osd_max_object_namespace_len = 64
osd_crush_chooseleaf_type = 0
osd_pool_default_size = 1
osd_pool_default_min_size = 1
osd_pool_default_pg_num = 8
osd_pool_default_autoscale_mode = off
crush_location = root=default host=localhost
rgw_data = {folder}/rgw
rgw_crypt_s3_kms_backend = testing
rgw_crypt_s3_kms_encryption_keys = {kms_key}=MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=
rgw_frontends = beast ssl_endpoint=127.0.0.1:{port} {certificate}
run_dir = {folder}/run
admin_socket = {folder}/run/$name.asok
log_file = {folder}/log/$name.log
pid_file =
"""


def is_installed() -> bool:
    """Whether all of Ceph's programs that this needs are there."""
    return all(shutil.which(name) for name in PROGRAMS)


class RadosGateway(S3Server):
    """Start with :meth:`start` or as a context manager; used like :class:`~tools.stack.s3.S3Server`.

    Only ``access_key`` with ``secret_key`` are let in.

    :param folder: for certificate, keys, logs and sockets; a temporary one by default, which :meth:`stop` removes.
        A socket's path must fit 107 bytes, so a deep folder will not do.
    """

    kms_key = "testkey-1"
    """The id of the key that objects can be encrypted with."""

    def __init__(self, folder: Path | None = None, *, port: int | None = None) -> None:
        super().__init__(folder or Path(tempfile.mkdtemp(prefix="rgw-")), port=port)
        self._own_folder = folder is None
        self.access_key = "AKIARADOSGATEWAY"
        self.process = self._daemon("radosgw", "-n", "client.admin")
        self._monitor = self._daemon("ceph-mon", "-i", "a")
        self._store = self._daemon("ceph-osd", "-i", "0")

    @property
    def log_path(self) -> Path:
        """What the gateway writes; the other daemons' logs lie beside it."""
        return self._folder / "log" / "radosgw.out"

    def start(self, timeout: float = 120.0) -> RadosGateway:
        """Start the three daemons and wait until the gateway answers, ``timeout`` seconds at most for each.

        :raises PartFailedError: when one of them does not, with the end of its log.
        """
        try:
            self._prepare()
            self._monitor.start()
            store_id = str(uuid.uuid4())
            wait_until(
                lambda: self._succeeds("ceph", "--connect-timeout", "5", "osd", "new", store_id, "0"),
                [self._monitor],
                what="Ceph's monitor",
                timeout=timeout,
            )
            self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", store_id)
            self._store.start()
            user = ["--uid=tests", "--display-name=tests", f"--access-key={self.access_key}"]
            self._run("radosgw-admin", "user", "create", *user, f"--secret-key={self.secret_key}", timeout=timeout)
            self.process.start()
            parts = [self.process, self._store, self._monitor]
            wait_until(self._listens, parts, what="Ceph's object gateway", timeout=timeout)
        except BaseException:
            self.stop()
            raise
        return self

    def add_user(self, name: str) -> tuple[str, str]:
        """Make a user without rights of its own; returns access key and secret key."""
        keys = f"AKIA{name.upper()}", f"secret-of-{name}"
        command = ["user", "create", f"--uid={name}", f"--display-name={name}"]
        self._run("radosgw-admin", *command, f"--access-key={keys[0]}", f"--secret-key={keys[1]}")
        return keys

    def stop(self) -> None:
        """Stop all daemons; does nothing when they do not run."""
        for process in (self.process, self._store, self._monitor):
            process.kill()  # what they keep is in memory, so an orderly end only takes time
        if self._own_folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _prepare(self) -> None:
        for name in ("mon", "osd", "rgw", "run", "log"):
            (self._folder / name).mkdir(parents=True, exist_ok=True)
        self._write_certificates()
        mon_port, fsid = free_port(), str(uuid.uuid4())
        certificate = f"ssl_certificate={self._folder}/server.pem ssl_private_key={self._folder}/server.key"
        text = _CONFIGURATION.format(
            folder=self._folder,
            fsid=fsid,
            mon_port=mon_port,
            port=self._port,
            certificate=certificate,
            kms_key=self.kms_key,
        )
        (self._folder / "ceph.conf").write_text(text)
        keyring, monmap = str(self._folder / "keyring"), str(self._folder / "monmap")
        everything = ["--cap", "mon", "allow *", "--cap", "osd", "allow *"]
        keys = {
            "mon.": ["--create-keyring", "--cap", "mon", "allow *"],
            "client.admin": everything,
            "osd.0": ["--cap", "mon", "allow profile osd", "--cap", "osd", "allow *"],
        }
        for name, capabilities in keys.items():
            self._run("ceph-authtool", keyring, "--gen-key", "-n", name, *capabilities)
        address = f"[v2:127.0.0.1:{mon_port}]"
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)

    def _daemon(self, program: str, *arguments: str) -> ServerProcess:
        command = [program, "-c", str(self._folder / "ceph.conf"), *arguments, "-f"]
        log = self._folder / "log" / f"{program}.out"
        return ServerProcess(program, command, log=log, env=_environment())

    def _run(self, program: str, *arguments: str, timeout: float = 60.0) -> None:
        done = self._call(program, *arguments, timeout=timeout)
        if done.returncode:
            raise PartFailedError(program, f"ended with status {done.returncode}: {done.stdout[-1000:].strip()}")

    def _succeeds(self, program: str, *arguments: str) -> bool:
        return self._call(program, *arguments, timeout=60).returncode == 0

    def _call(self, program: str, *arguments: str, timeout: float) -> subprocess.CompletedProcess[str]:
        if shutil.which(program) is None:
            raise PartFailedError(program, "is not installed; run tools/radosgw/install.sh")
        configuration = [] if program in {"ceph-authtool", "monmaptool"} else ["-c", str(self._folder / "ceph.conf")]
        command = [program, *configuration, *arguments]
        env = _environment()
        return subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, env=env, check=False
        )

    def _listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(2)
            return probe.connect_ex(("127.0.0.1", self._port)) == 0


def _environment() -> Mapping[str, str]:
    """The caller's, without what would point Ceph or its Python tool elsewhere."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("CEPH_", "PYTHON"))}
