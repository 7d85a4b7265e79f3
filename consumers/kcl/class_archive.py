"""A class-data archive (AppCDS) of the KCL's jars: the daemon loads its classes parsed and verified.

``python -m consumers.kcl.class_archive`` makes it (``make install`` runs that). A launcher uses an existing archive; on
a local endpoint it makes a missing one in the background. The archive is optional: the JVM checks it against its own
version and the jars' times, and ignores one that does not match.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

from cdckit.errors import CdcError
from cdckit.runtime.child_process import module_command
from consumers.kcl import java as jvm

_DUMP_SECONDS = 300
_UNUSED_SECONDS = 30 * 86_400
_WRITABLE_BY_OTHERS = 0o022


def find(java: str) -> Path | None:
    """The archive for this Java and these jars; None when there is none, or when somebody else may have written it."""
    try:
        path = _path(java)
        if not (_is_ours(path) and _is_ours(path.parent)):
            return None
        os.utime(path)
    except (OSError, RuntimeError):  # no home folder
        return None
    return path


def flags(archive: Path | None) -> list[str]:
    """What the JVM needs to use it; mismatches are not an error."""
    return [] if archive is None else ["-Xshare:auto", f"-XX:SharedArchiveFile={archive}"]


def start_making(java: str) -> subprocess.Popen[bytes] | None:
    """Make it in a process group of its own, for later starts; None when there is one, or a try has failed before."""
    try:
        path = _path(java)
        if path.exists() or _failed(path).exists():
            return None
    except (OSError, RuntimeError):
        return None
    return subprocess.Popen(
        module_command("consumers.kcl.class_archive", java),
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def make(java: str) -> str:
    """Make the archive unless it exists or another process is making it. The reason when it cannot be made, else ""."""
    try:
        path = _path(java)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_ours(path.parent):
            return f"others may write to {path.parent}"
        with _alone(path) as alone:
            if not alone or path.exists():
                return ""
            _remove(old for old in path.parent.glob("kcl-*") if time.time() - old.stat().st_mtime > _UNUSED_SECONDS)
            return _dump(java, path)
    except (OSError, RuntimeError) as error:
        return str(error)


def _dump(java: str, path: Path) -> str:
    classes, fresh = path.with_suffix(".classes"), path.with_suffix(".tmp")
    try:
        classes.write_text(_classes(java))
        command = [
            java, "-Xshare:dump", *jvm.FLAGS, f"-XX:SharedClassListFile={classes}", f"-XX:SharedArchiveFile={fresh}",
            "-cp", jvm.class_path(),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DUMP_SECONDS, check=False)
        if done.returncode == 0 and fresh.exists():
            fresh.chmod(0o600)
            fresh.replace(path)
            return ""
        reason = f"{java} ended with status {done.returncode}: {(done.stderr or done.stdout)[-500:].strip()}"
    except subprocess.TimeoutExpired:
        reason = f"{java} took longer than {_DUMP_SECONDS} s"
    finally:
        _remove([classes, fresh])
    _failed(path).write_text(f"{reason}\n")
    return reason


def _classes(java: str) -> str:
    """The classes that Java itself starts with, and those that a daemon was seen to load. Unknown ones are skipped."""
    own = Path(java).resolve().parent.parent / "lib" / "classlist"
    return (own.read_text() if own.is_file() else "") + (files("kcl_properties") / "classes.txt").read_text()


def _path(java: str) -> Path:
    """Below the user's cache folder, named by all that it depends on: Java, flags, jars and the list of classes."""
    real, jars = Path(java).resolve(), jvm.find_jars()
    home = real.parent.parent
    parts = [real, home / "release", home / "lib" / "modules", *sorted(jars.glob("*.jar"))]
    listed = (files("kcl_properties") / "classes.txt").read_bytes()
    text = "\n".join([*jvm.FLAGS, hashlib.sha256(listed).hexdigest(), *map(_identity, parts)])
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return folder / "cdckit" / f"kcl-{hashlib.sha256(text.encode()).hexdigest()[:16]}.jsa"


def _identity(path: Path) -> str:
    try:
        found = path.stat()
    except FileNotFoundError:
        return f"{path} -"
    return f"{path} {found.st_size} {found.st_mtime_ns}"


def _failed(path: Path) -> Path:
    return path.with_suffix(".failed")


def _is_ours(path: Path) -> bool:
    """An archive is code: it must be this user's, and nobody else's to write."""
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & _WRITABLE_BY_OTHERS


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    with path.with_suffix(".lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def _remove(paths: Iterable[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def main() -> None:
    """Make it for the given Java, else for the one that the launcher would find; exits with 0 when that cannot be."""
    os.nice(10)
    try:
        problem = make(sys.argv[1] if len(sys.argv) > 1 else jvm.find_java(os.environ.get("CDC_JAVA", "")))
    except CdcError as error:
        problem = str(error)
    if problem:
        sys.stderr.write(f"cdc: no class-data archive, consumers start some seconds later: {problem}\n")


if __name__ == "__main__":
    main()
