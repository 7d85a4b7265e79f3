"""A private PostgreSQL cluster with logical replication and wal2json, on 127.0.0.1 and a free port."""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cdcctl.sandbox.processes import free_port, tail_of
from cdckit.errors import CdcError, SourceError

DATABASE = "shop"
USER = "cdc"
_NOTE = "elsewhere"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "wal_level": "logical",
    "max_replication_slots": "10",
    "max_wal_senders": "10",
    "wal_sender_timeout": "30s",
    "max_slot_wal_keep_size": "4GB",
    "fsync": "off",  # a sandbox: killing PostgreSQL loses nothing, only a power cut would
    "log_min_messages": "warning",
}


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster's folder and port. The password lies beside the data, mode 0600."""

    folder: Path
    port: int

    @property
    def dsn(self) -> str:
        """The libpq URL of the sandbox database, password included."""
        password = (self.folder / "password").read_text().strip()
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def log(self) -> Path:
        """The server's log."""
        return self.folder / "postgres.log"

    @property
    def running(self) -> bool:
        """Whether the server answers (pg_ctl's own opinion)."""
        return _pg_ctl(self, "status", check=False) == 0

    def start(self) -> None:
        """Start the server and wait until it takes connections."""
        options = f"-p {self.port} {_plugin_option()}"
        _pg_ctl(self, "start", "-w", "-t", "60", "-l", str(self.log), "-o", options.strip())

    def remove(self) -> None:
        """Stop the server and delete its folder, wherever it is."""
        if (self.folder / "data").exists():
            self.stop("immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self, mode: str = "fast") -> None:
        """Stop the server (modes of pg_ctl: smart, fast, immediate); no error when it does not run."""
        if self.running and _pg_ctl(self, "stop", "-w", "-t", "20", "-m", mode, check=False) != 0:
            _pg_ctl(self, "stop", "-w", "-m", "immediate", check=False)


def create(folder: Path) -> Cluster:
    """Make (or find) the cluster that belongs to `folder` and choose a free port; not started yet.

    Raises SourceError when PostgreSQL or wal2json is not installed. PostgreSQL refuses to run as root: then it runs as
    the user ``postgres``, and where that user cannot enter `folder`, in a new folder below /var/tmp, which a file in
    `folder` names: without `folder` it is never used again.
    """
    home = _reachable(folder)
    cluster = Cluster(home, free_port())
    if not (home / "data" / "PG_VERSION").exists():
        _initialise(cluster)
    return cluster


def binaries() -> Path:
    """The folder of the newest PostgreSQL programs that have wal2json. Raises SourceError with what to install."""
    found = sorted(_candidates(), key=_version, reverse=True)
    for folder in found:
        if _has_wal2json(folder):
            return folder
    if found:
        major = _version(found[0])
        raise SourceError(
            f"PostgreSQL {major} is here ({found[0]}), but its plugin wal2json is not",
            f"apt-get install postgresql-{major}-wal2json, or use your own PostgreSQL: export CDC_DSN=postgresql://…",
        )
    raise SourceError(
        "no PostgreSQL server programs on this machine",
        "scripts/system-packages.sh installs them on Debian and Ubuntu (postgresql-NN and postgresql-NN-wal2json); "
        "or use your own PostgreSQL: export CDC_DSN=postgresql://…",
    )


def _candidates() -> list[Path]:
    folders = [Path(path) for path in os.environ.get("CDC_PG_BIN", "").split(os.pathsep) if path]
    folders += Path("/usr/lib/postgresql").glob("*/bin")
    if on_path := shutil.which("pg_ctl"):
        folders.append(Path(on_path).resolve().parent)
    return [
        folder for folder in dict.fromkeys(folders) if (folder / "initdb").exists() and (folder / "postgres").exists()
    ]


def _version(folder: Path) -> int:
    shown = subprocess.run([str(folder / "postgres"), "--version"], capture_output=True, text=True, check=False).stdout
    match = re.search(r"\) (\d+)", shown)
    return int(match[1]) if match else 0


def _has_wal2json(folder: Path) -> bool:
    command = [str(folder / "pg_config"), "--pkglibdir"]
    try:
        library = Path(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    except (OSError, subprocess.CalledProcessError):
        library = folder.parent / "lib"
    return any((place / "wal2json.so").exists() for place in (library, folder.parent / "lib"))


def _owner() -> str | None:
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam("postgres").pw_name
    except KeyError:
        raise SourceError(
            "PostgreSQL refuses to run as root and there is no user 'postgres'",
            "run as another user, or adduser postgres",
        ) from None


def _reachable(folder: Path) -> Path:
    owner = _owner()
    folder.mkdir(parents=True, exist_ok=True)
    if owner is None:
        return folder
    if not _can_enter(owner, folder):
        folder = _elsewhere(folder)
    shutil.chown(folder, owner)
    folder.chmod(0o700)
    return folder


def home(folder: Path) -> Path:
    """Where the cluster that belongs to `folder` lies: there, or where its note says."""
    note = folder / _NOTE
    known = Path(note.read_text().strip()) if note.exists() else folder
    return known if known.is_dir() else folder


def _elsewhere(folder: Path) -> Path:
    known = home(folder)
    if known != folder:
        return known
    made = Path(tempfile.mkdtemp(prefix="cdc-postgres-", dir="/var/tmp"))
    (folder / _NOTE).write_text(f"{made}\n")
    return made


def _can_enter(owner: str, folder: Path) -> bool:
    test = subprocess.run(["test", "-x", str(folder.parent)], user=owner, group=owner, check=False, capture_output=True)
    return test.returncode == 0


def _initialise(cluster: Cluster) -> None:
    shutil.rmtree(cluster.folder / "data", ignore_errors=True)
    secret = cluster.folder / "password"
    secret.touch(mode=0o600)
    secret.write_text(secrets.token_hex(16) + "\n")
    owner = _owner()
    if owner is not None:
        shutil.chown(secret, owner)
    command = [
        "initdb",
        "-D",
        "data",
        "-U",
        USER,
        "-A",
        "scram-sha-256",
        "--pwfile=password",
        "-E",
        "UTF8",
        "--locale=C",
        "-N",
    ]
    _run(cluster, *command)
    lines = "".join(f"{name} = '{value}'\n" for name, value in _SETTINGS.items())
    with (cluster.folder / "data" / "postgresql.conf").open("a") as conf:
        conf.write(lines)
    _start_once_and_create_database(cluster)


def _start_once_and_create_database(cluster: Cluster) -> None:
    single = f"CREATE DATABASE {DATABASE};\n"
    _run(cluster, "postgres", "--single", "-D", "data", "postgres", stdin=single)


def _plugin_option() -> str:
    """Minor releases from late 2026 on (15.20) allow only listed output plugins; older ones do not know the setting.

    Given at each start, not at initdb: the packages may be upgraded under a cluster that exists.
    """
    shown = subprocess.run(
        [str(binaries() / "postgres"), "--describe-config"], capture_output=True, text=True, check=True
    )
    known = any(line.startswith("output_plugin_libraries\t") for line in shown.stdout.splitlines())
    return "-c output_plugin_libraries=pgoutput,test_decoding,wal2json" if known else ""


def _pg_ctl(cluster: Cluster, verb: str, *arguments: str, check: bool = True) -> int:
    return _run(cluster, "pg_ctl", verb, "-s", "-D", str(cluster.folder / "data"), *arguments, check=check)


def _run(cluster: Cluster, program: str, *arguments: str, check: bool = True, stdin: str = "") -> int:
    owner = _owner()
    # pg_ctl's server inherits our streams: a pipe would never close, so the output goes to a file.
    with (cluster.folder / "commands.log").open("ab") as log:
        done = subprocess.run(
            [str(binaries() / program), *arguments],
            cwd=cluster.folder, user=owner, group=owner, input=stdin.encode(), stdout=log, stderr=log, check=False,
            start_new_session=True, env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
    if check and done.returncode != 0:
        output = tail_of(cluster.folder / "commands.log", 3) + tail_of(cluster.log, 3)
        raise CdcError(f"{program} {arguments[0]} failed{output}", f"see {cluster.folder}")
    return done.returncode
