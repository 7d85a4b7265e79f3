"""``cdcctl audit verify|export|seal|expire|key``: verifies the log, and manages its segments and signing keys."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cdcctl import output
from cdcctl.options import Format, Output, current_settings
from cdcctl.timespec import parse_time
from cdckit.errors import SatelliteError, UsageError
from consumers.audit.log import AuditLog
from consumers.audit.log import open_log as opened_log
from consumers.audit.options import AuditOptions
from consumers.audit.proof.export import export_log, verify_file
from consumers.audit.proof.keys import PRIVATE_KEY_FILE, public_keys, read_public, rotate_signing_key, signing_key
from consumers.audit.proof.verification import ChainVerification

keys_app = typer.Typer(no_args_is_help=True, help="Manage the log's signing keys.")


def verify(
    context: typer.Context,
    file: Annotated[Path | None, typer.Option("--file", help="Verify an exported file instead of the log.")] = None,
    public_key: Annotated[
        Path | None,
        typer.Option("--public-key", help="The key to trust (ID.pub.pem).", show_default="all keys of the log"),
    ] = None,
    output_format: Output = Format.TABLE,
) -> None:
    """Verify chains, anchors and segments. Exit status 6, with the first bad entry, when anything was altered.

    Not covered: a writer of the log can replace all entries after a chain's last anchor.

    Example: [bold]cdcctl audit verify --file audit.jsonl --public-key 3f2a….pub.pem[/]
    """
    root = None if public_key is None else read_public(public_key)
    if file is not None:
        if root is None:
            raise UsageError("--file needs a trusted public key", "add --public-key ID.pub.pem")
        proofs = verify_file(file, root)
    else:
        with _opened(context) as opened:
            proofs = opened.verify(root)
    if output_format is Format.JSON:
        output.print_json([asdict(proof) for proof in proofs])
    else:
        _print_proofs(proofs)
    if broken := [proof.broken for proof in proofs if proof.broken is not None]:
        bad = "; ".join(f"{entry.chain}: entry {entry.number} {entry.reason}" for entry in broken)
        raise SatelliteError(
            f"the audit log was altered: {bad}", "compare the log with a copy; all entries before are intact"
        )


def export(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The file to write (JSON lines).")],
    output_format: Output = Format.TABLE,
) -> None:
    """Write the log with its anchors and key rotations to one file that can be verified on its own.

    Example: [bold]cdcctl audit export audit.jsonl[/]
    """
    with _opened(context) as opened:
        count = export_log(opened, file)
    _result(output_format, {"file": str(file), "entries": count}, f"{count} entries written to {file}")


def seal(
    context: typer.Context,
    before: Annotated[
        str, typer.Option("--before", help="Entries committed before this time: 90d, 2026-11-23T10:00:00Z.")
    ],
    output_format: Output = Format.TABLE,
) -> None:
    """Move old entries into compressed, signed segments (below the log's folder, or `segments` in cdc.toml).

    Segments are queried and verified like other entries. Do not seal entries that are newer than the stream's
    retention or your replay window.

    Example: [bold]cdcctl audit seal --before 90d[/]
    """
    with _opened(context) as opened:
        segments = opened.seal(parse_time(before).isoformat())
    entries = sum(segment.last - segment.first + 1 for segment in segments)
    _result(output_format, {"segments": [segment.name for segment in segments], "entries": entries},
            f"{entries} entries sealed in {len(segments)} segments")  # fmt: skip


def expire(
    context: typer.Context,
    before: Annotated[str, typer.Option("--before", help="Segments that end before this time: 365d, 2026-01-01.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    output_format: Output = Format.TABLE,
) -> None:
    """Permanently delete sealed segments. Their manifests stay, so that the chains can still be verified.

    Example: [bold]cdcctl audit expire --before 365d --yes[/]
    """
    moment = parse_time(before)
    if not yes and not output.confirm(f"Delete every sealed segment that ends before {moment:%Y-%m-%d %H:%M} UTC?"):
        raise typer.Exit(1)
    with _opened(context) as opened:
        deleted = opened.segments.expire(moment.isoformat())
    names = [segment.name for segment in deleted]
    _result(output_format, {"expired": names}, f"{len(names)} segments expired")


@keys_app.command("ls")
def list_keys(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """List the public keys and their files. Keep a copy of one in a place that the log's host cannot write to.

    Example: [bold]cdcctl audit key ls[/]
    """
    folder, active = _key_folder(context), None
    if (folder / PRIVATE_KEY_FILE).exists():
        active = signing_key(folder).id
    rows = [
        {"id": name, "file": str(folder / f"{name}.pub.pem"), "active": name == active} for name in public_keys(folder)
    ]
    if output_format is Format.JSON:
        output.print_json(rows)
    elif rows:
        output.print_table(["key", "public key", "active"], [list(row.values()) for row in rows])
    else:
        output.note("no key yet: cdcctl consumer run audit creates one")


@keys_app.command("rotate")
def rotate_key(context: typer.Context, output_format: Output = Format.TABLE) -> None:
    """Create a new signing key, signed by the old one. Running consumers use it from their next anchor on.

    Example: [bold]cdcctl audit key rotate[/]
    """
    folder = _key_folder(context)
    if not (folder / PRIVATE_KEY_FILE).exists():
        raise SatelliteError(f"there is no signing key in {folder}", "cdcctl consumer run audit creates one")
    old, new = rotate_signing_key(folder)
    _result(output_format, {"old": old, "new": new}, f"{new} is the signing key now; it is signed by {old}")


def _print_proofs(proofs: list[ChainVerification]) -> None:
    rows = [
        (
            proof.chain,
            proof.entries,
            proof.expired,
            proof.anchored,
            proof.last - proof.anchored,
            "altered" if proof.broken else "ok",
        )
        for proof in proofs
    ]
    output.print_table(["chain", "entries", "expired", "anchored up to", "after the last anchor", ""], rows)
    if not any(proof.broken for proof in proofs):
        unanchored = sum(proof.last - proof.anchored for proof in proofs)
        output.print_text(f"[green]unaltered[/]: {sum(proof.entries for proof in proofs)} entries match their hashes")
        if unanchored:
            output.note(f"{unanchored} entries after the last anchors are chained, but not signed yet")


def _result(output_format: Format, value: dict[str, Any], text: str) -> None:
    if output_format is Format.JSON:
        output.print_json(value)
    else:
        output.print_text(output.escape(text))


def options(context: typer.Context) -> AuditOptions:
    """The options in ``[consumers.audit]``. Raises UsageError."""
    return AuditOptions.read(current_settings(context).options("audit"))


def _key_folder(context: typer.Context) -> Path:
    return options(context).key_folder(current_settings(context).satellite("audit"))


def _opened(context: typer.Context) -> AbstractContextManager[AuditLog]:
    return opened_log(current_settings(context).satellite("audit"), options(context))
