"""`cdcctl` processes for a test under the real KCL, on a Kinesis that can be split."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cdcctl.demo.child_processes import ChildProcesses
from tests.support.resharding_aws import ReshardingCloud


@contextmanager
def parts_in(
    folder: Path, cloud: ReshardingCloud, monkeypatch: pytest.MonkeyPatch, toml: str = "", **more: str
) -> Iterator[ChildProcesses]:
    """Nothing runs yet; what was started ends with the block. `toml` is ``cdc.toml``, `more` are further variables.

    This process gets the variables too.
    """
    config = folder / "cdc.toml"
    config.write_text(toml)
    environ = {
        **cloud.environ, "CDC_DATA": str(folder), "CDC_CONFIG": str(config), "CDC_CHECKPOINT_SECONDS": "0.5", **more,
    }  # fmt: skip
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    made = ChildProcesses(folder / "logs", environ)
    yield made
    made.stop()
