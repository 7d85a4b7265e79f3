"""``cdcctl audit verify|export|seal|expire|key``: the proof that the log is untouched, and its retention."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from cdcctl import output
from cdcctl.options import Format, Output, settings
from cdcctl.timespec import parse_moment
from cdckit.errors import SatelliteError, UsageError
from consumers.audit.log import AuditLog
from consumers.audit.log import open_log as opened_log
from consumers.audit.options import AuditOptions
from consumers.audit.proof.export import export_log, verify_file
from consumers.audit.proof.keys import PRIVATE_KEY_FILE, public_keys, read_public, rotate_signing_key, signing_key
from consumers.audit.proof.verification import ChainVerification

keys_app = typer.Typer(no_args_is_help=True, help="The log's signing keys.")


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
            proofs = opened.verify(root)
    if output_format is Format.JSON:
        output.print_json([asdict(proof) for proof in proofs])
    else:
        _print_proofs(proofs)
    if broken := [proof.broken for proof in proofs if proof.broken is not None]:
        bad = "; ".join(f"{one.chain}: entry {one.number} {one.reason}" for one in broken)
        raise SatelliteError(
            f"the audit log was altered: {bad}", "compare it with a copy; the entries before are sound"
        )


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
    if (folder / PRIVATE_KEY_FILE).exists():
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
    if not (folder / PRIVATE_KEY_FILE).exists():
        raise SatelliteError(f"there is no signing key in {folder}", "cdcctl consumer run audit makes one")
    old, new = rotate_signing_key(folder)
    _result(output_format, {"old": old, "new": new}, f"{new} signs from now on; whoever trusts {old} trusts it too")


def _print_proofs(proofs: list[ChainVerification]) -> None:
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


def options(context: typer.Context) -> AuditOptions:
    """``[consumers.audit]`` of the settings in force. Raises UsageError."""
    return AuditOptions.read(settings(context).options("audit"))


def _key_folder(context: typer.Context) -> Path:
    return options(context).key_folder(settings(context).satellite("audit"))


def _opened(context: typer.Context) -> AbstractContextManager[AuditLog]:
    return opened_log(settings(context).satellite("audit"), options(context))
