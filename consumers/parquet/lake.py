"""A lake and its tables: a folder or an ``s3://`` URL, with one Delta table below it per source table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from cdckit.change import Table
from cdckit.errors import SatelliteError
from consumers.parquet import object_store
from consumers.parquet.names import original_name, table_path
from consumers.storage.objects import S3Objects

RUN = "cdcctl consumer run parquet"


@dataclass(frozen=True, slots=True, order=True)
class TableRef:
    """One table of one source."""

    source: str
    table: Table

    @property
    def path(self) -> str:
        """The table's path below the lake's root."""
        return table_path(self.source, self.table)

    def __str__(self) -> str:
        return f"{self.source}/{self.table}"


@dataclass(frozen=True, slots=True)
class Lake:
    """A lake: its root; for a URL also the storage options for `deltalake`, and the bucket."""

    root: str
    storage: Mapping[str, str] = field(default_factory=dict)
    bucket: S3Objects | None = field(default=None, compare=False)

    @classmethod
    def at(cls, location: Path | str) -> Lake:
        """The lake in a folder, or at a URL such as ``s3://bucket/prefix`` (reached by the standard AWS settings)."""
        text = str(location)
        if "://" in text:
            return cls(text.rstrip("/"), object_store.storage_options(text), object_store.open_objects(text))
        return cls(str(Path(text).absolute()))

    @property
    def is_local(self) -> bool:
        """Whether the lake is a folder on this host."""
        return self.bucket is None

    def uri(self, ref: TableRef) -> str:
        """The path or URL of one table."""
        return f"{self.root}/{ref.path}"

    def open(self, ref: TableRef) -> DeltaTable:
        """The current version of a table. Raises SatelliteError when it does not exist or cannot be read."""
        try:
            return DeltaTable(self.uri(ref), storage_options=dict(self.storage))
        except TableNotFoundError as error:
            raise SatelliteError(
                f"the lake {self.root} has no table {ref}", "`cdcctl parquet ls` lists them"
            ) from error
        except (DeltaError, OSError) as error:
            raise SatelliteError(f"cannot read {self.uri(ref)}: {error}", "check the folder or URL") from error

    def tables(self) -> list[TableRef]:
        """All tables of the lake, sorted. Raises SatelliteError when there is no lake."""
        found = sorted(self._find_tables())
        if not found:
            raise SatelliteError(f"there is no Parquet lake at {self.root}", RUN)
        return found

    def _find_tables(self) -> Iterator[TableRef]:
        for path in self._paths():
            try:
                source, schema, name = map(original_name, path.split("/"))
            except ValueError:
                continue
            yield TableRef(source, Table(schema, name))

    def _paths(self) -> Iterator[str]:
        if self.bucket is not None:
            return object_store.table_paths(self.bucket)
        root = Path(self.root)
        return (log.parent.relative_to(root).as_posix() for log in root.glob("*/*/*/_delta_log"))
