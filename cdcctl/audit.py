"""``cdcctl audit``: who changed what, when and why, and whether the record is untouched."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from cdcctl import output
from cdcctl.context import Format, Output, settings
from cdcctl.moments import parse_moment
from cdckit.change import Op, Table
from cdckit.errors import SatelliteError, UsageError
from consumers.audit import query as log
from consumers.audit.export import export as export_log
from consumers.audit.export import verify_file
from consumers.audit.keys import PRIVATE, public_keys, read_public, rotate, signing_key
from consumers.audit.log import AuditLog
from consumers.audit.log import opened as opened_log
from consumers.audit.options import Options
from consumers.audit.proof import Proof

app = typer.Typer(no_args_is_help=True, help="Ask the audit log, and verify it.")
keys_app = typer.Typer(no_args_is_help=True, help="The log's signing keys.")
app.add_typer(keys_app, name="key")
_FIELDS = (
    "position", "commit_time", "op", "table", "key", "xid", "annotation", "changed", "key_change", "shard",
    "sequence_number",
)  # fmt: skip


class AuditFormat(StrEnum):
    """How entries are printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    PARQUET = "parquet"


AuditOutput = Annotated[
    AuditFormat, typer.Option("--output", "-o", help="For people, or for scripts (parquet: redirect it to a file).")
]
_STYLES = {Op.INSERT: "green", Op.UPDATE: "yellow", Op.DELETE: "red", Op.TRUNCATE: "bold red"}
_VERBS = {Op.INSERT: "inserted", Op.UPDATE: "updated", Op.DELETE: "deleted", Op.TRUNCATE: "truncated"}


@app.command()
def history(
    context: typer.Context,
    table_name: Annotated[str, typer.Argument(metavar="TABLE", help="schema.table")],
    key: Annotated[str, typer.Argument(help='42, some-text, or a JSON array for a composite key: ["a", 1]')],
    as_of: Annotated[str | None, typer.Option("--as-of", help="Show the row as it was then instead.")] = None,
    output_format: AuditOutput = AuditFormat.TABLE,
) -> None:
    """Show one row's changes as a timeline, or the row as of a time.

    Example: [bold]cdcctl audit history public.orders 42 --as-of 2026-11-23T10:00:00Z[/]
    """
    found = settings(context)
    folder, options = found.satellite("audit"), _options(context)
    row = log.Row(found.source, _table(table_name), _key(key))
    if as_of is not None:
        state = log.as_of(folder, row, parse_moment(as_of), options)
        if output_format is not AuditFormat.TABLE:
            output.print_json({"row": state})
        else:
            output.print_table(
                ["column", "value"], list((state or {}).items()), title="" if state else "the row did not exist"
            )
        return
    _print(log.history(folder, row, options), output_format)


@app.command()
def tx(
    context: typer.Context,
    xid: Annotated[int, typer.Argument(help="The transaction's id.")],
    output_format: AuditOutput = AuditFormat.TABLE,
) -> None:
    """Show one transaction's changes.

    Example: [bold]cdcctl audit tx 7513[/]
    """
    _print(log.transaction(settings(context).satellite("audit"), xid, _options(context)), output_format)


@app.command()
def search(
    context: typer.Context,
    table_name: Annotated[str | None, typer.Option("--table", metavar="TABLE", help="schema.table")] = None,
    actor: Annotated[str | None, typer.Option(help="Who, as the annotation says.")] = None,
    column: Annotated[str | None, typer.Option(help="Only changes of this column.")] = None,
    since: Annotated[str | None, typer.Option(help="10m, 2026-11-23T10:00:00Z")] = None,
    until: Annotated[str | None, typer.Option(help="Before: 10m, 2026-11-23T10:00:00Z")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="How many, newest first.")] = 20,
    output_format: AuditOutput = AuditFormat.TABLE,
) -> None:
    """Find changes by who, what and when, newest first.

    Example: [bold]cdcctl audit search --actor alice --table public.orders --since 1d --column total[/]
    """
    wanted = log.Filter(
        None if table_name is None else _table(table_name), actor, column,
        None if since is None else parse_moment(since), None if until is None else parse_moment(until), None, limit,
    )  # fmt: skip
    _print(log.find(settings(context).satellite("audit"), wanted, _options(context)), output_format)


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[Path | None, typer.Option("--file", help="Verify an exported file instead of the log.")] = None,
    public_key: Annotated[
        Path | None, typer.Option("--public-key", help="The key to trust (ID.pub.pem). [default: all of the log's]")
    ] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Verify chains, anchors and segments; exit 6 and name the first bad entry when anything was altered.

    Not covered: entries after a chain's last anchor could have been rewritten as a whole by whoever can write the log.

    Example: [bold]cdcctl audit verify --file audit.jsonl --public-key 3f2a….pub.pem[/]
    """
    root = None if public_key is None else read_public(public_key)
    if file is not None:
        if root is None:
            raise UsageError("an exported file is verified with a key that you trust", "--public-key ID.pub.pem")
        proofs = verify_file(file, root)
    else:
        with _opened(context) as opened:
            proofs = opened.prove(root)
    if output_format is Format.JSON:
        output.print_json([asdict(proof) for proof in proofs])
    else:
        _print_proofs(proofs)
    if broken := [proof.broken for proof in proofs if proof.broken is not None]:
        bad = "; ".join(f"{one.chain}: entry {one.number} {one.reason}" for one in broken)
        raise SatelliteError(
            f"the audit log was altered: {bad}", "compare it with a copy; the entries before are sound"
        )


@app.command()
def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write (JSON lines).")],
    output_format: Output = Format.TABLE,
) -> None:
    """Write the whole log, its anchors and key rotations to one file that proves itself.

    Example: [bold]cdcctl audit export audit.jsonl[/]
    """
    with _opened(context) as opened:
        count = export_log(opened, file)
    _result(output_format, {"file": str(file), "entries": count}, f"{count} entries written to {file}")


@app.command()
def seal(
    context: typer.Context,
    before: Annotated[str, typer.Option("--before", help="Entries committed before: 90d, 2026-11-23T10:00:00Z.")],
    output_format: Output = Format.TABLE,
) -> None:
    """Move old entries into compressed, signed segments (below the log's folder, or `segments` in cdc.toml).

    They are queried and verified as before. Keep at least the stream's retention and your replay window out of it.

    Example: [bold]cdcctl audit seal --before 90d[/]
    """
    with _opened(context) as opened:
        made = opened.seal(parse_moment(before).isoformat())
    entries = sum(one.last - one.first + 1 for one in made)
    _result(output_format, {"segments": [one.name for one in made], "entries": entries},
            f"{entries} entries sealed in {len(made)} segments")  # fmt: skip


@app.command()
def expire(
    context: typer.Context,
    before: Annotated[str, typer.Option("--before", help="Segments that end before: 365d, 2026-01-01.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Delete sealed segments for good; their manifests stay, so that the chains still verify.

    Example: [bold]cdcctl audit expire --before 365d --yes[/]
    """
    moment = parse_moment(before)
    if not yes and not output.confirm(f"Delete every sealed segment that ends before {moment:%Y-%m-%d %H:%M} UTC?"):
        raise typer.Exit(1)
    with _opened(context) as opened:
        gone = opened.segments.expire(moment.isoformat())
    _result(output_format, {"expired": [one.name for one in gone]}, f"{len(gone)} segments expired")


@keys_app.command("ls")
def list_keys(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List the public keys and where they are; keep a copy of one where the log's host cannot write.

    Example: [bold]cdcctl audit key ls[/]
    """
    folder, active = _key_folder(context), None
    if (folder / PRIVATE).exists():
        active = signing_key(folder).id
    rows = [
        {"id": name, "file": str(folder / f"{name}.pub.pem"), "signs": name == active} for name in public_keys(folder)
    ]
    if output_format is Format.JSON:
        output.print_json(rows)
    elif rows:
        output.print_table(["key", "public key", "signs now"], [list(row.values()) for row in rows])
    else:
        output.note("no key yet: cdcctl consumer run audit makes one")


@keys_app.command("rotate")
def rotate_key(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Make a new signing key, vouched for by the old one; running consumers take it at their next anchor.

    Example: [bold]cdcctl audit key rotate[/]
    """
    folder = _key_folder(context)
    if not (folder / PRIVATE).exists():
        raise SatelliteError(f"there is no signing key in {folder}", "cdcctl consumer run audit makes one")
    old, new = rotate(folder)
    _result(output_format, {"old": old, "new": new}, f"{new} signs from now on; whoever trusts {old} trusts it too")


def _print_proofs(proofs: list[Proof]) -> None:
    rows = [
        (one.chain, one.entries, one.expired, one.anchored, one.last - one.anchored, "altered" if one.broken else "ok")
        for one in proofs
    ]
    output.print_table(["chain", "entries", "expired", "anchored up to", "after the last anchor", ""], rows)
    if not any(one.broken for one in proofs):
        loose = sum(one.last - one.anchored for one in proofs)
        output.print_text(f"[green]untouched[/]: {sum(one.entries for one in proofs)} entries match their hashes")
        if loose:
            output.note(f"{loose} entries after the last anchors are linked, but not yet vouched for")


def _result(output_format: Format, value: dict[str, Any], text: str) -> None:
    if output_format is Format.JSON:
        output.print_json(value)
    else:
        output.print_text(output.escape(text))


def _options(context: typer.Context) -> Options:
    return Options.read(settings(context).options("audit"))


def _key_folder(context: typer.Context) -> Path:
    return _options(context).key_folder(settings(context).satellite("audit"))


def _opened(context: typer.Context) -> AbstractContextManager[AuditLog]:
    return opened_log(settings(context).satellite("audit"), _options(context))


def _print(events: list[log.Event], output_format: AuditFormat) -> None:
    if output_format is not AuditFormat.TABLE:
        _write(events, output_format)
        return
    for event in events:
        output.print_text(_headline(event))
        for name, (old, new) in event.changed.items():
            output.print_line(f"    {output.escape(name)}: {_diff(event.op, old, new)}")
    if not events:
        output.note("no such change in the log")


def _write(events: list[log.Event], output_format: AuditFormat) -> None:
    rows = [_plain(event) for event in events]
    if output_format is AuditFormat.JSON:
        output.print_json(rows)
        return
    flat = [
        {name: output.json_line(value) if isinstance(value, dict) else value for name, value in row.items()}
        for row in rows
    ]
    if output_format is AuditFormat.CSV:
        output.print_csv(_FIELDS, flat)
    else:
        output.print_parquet(_FIELDS, flat)


def _headline(event: log.Event) -> str:
    style, moment = _STYLES[event.op], event.commit_time.astimezone().isoformat(sep=" ", timespec="milliseconds")
    verb = f"{_VERBS[event.op]}{' (its key changed)' if event.key_change else ''}"
    line = f"[dim]{moment}[/]  [{style}]{verb}[/]  [bold]{output.escape(event.table)}[/] {output.escape(event.key)}"
    line += f"  [dim]tx {event.xid}[/]"
    who = ", ".join(f"{name}: {value}" for name, value in (event.annotation or {}).items())
    return line + (f"  [italic magenta]{output.escape(who)}[/]" if who else "")


def _diff(op: Op, old: object, new: object) -> str:
    if op is Op.INSERT:
        return f"[green]{_short(new)}[/]"
    if op is Op.UPDATE:
        return f"[red]{_short(old)}[/] → [green]{_short(new)}[/]"
    return f"[red]{_short(old)}[/]"


def _short(value: object) -> str:
    text = "null" if value is None else " ".join(str(value).split())
    return output.escape(text if len(text) <= 100 else text[:99] + "…")


def _plain(event: log.Event) -> dict[str, Any]:
    changed = {name: {"old": old, "new": new} for name, (old, new) in event.changed.items()}
    return {
        "position": str(event.position), "commit_time": event.commit_time.isoformat(), "op": event.op.value,
        "table": event.table, "key": event.key, "xid": event.xid, "annotation": event.annotation,
        "changed": changed, "key_change": event.key_change, "shard": event.shard,
        "sequence_number": event.sequence_number,
    }  # fmt: skip


def _table(text: str) -> Table:
    try:
        return Table.parse(text)
    except ValueError as error:
        raise UsageError(str(error), "write schema.table") from error


def _key(text: str) -> str:
    try:
        parsed = json.loads(text)
    except ValueError:
        parsed = text
    values = parsed if isinstance(parsed, list) else [parsed if isinstance(parsed, int) else text]
    return json.dumps(values, ensure_ascii=False, separators=(",", ":"))
