"""Masks hide values everywhere in a row's text, keys stay keys, and masks that do not fit are refused."""

import json
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdckit.change import Table
from cdckit.envelope import decode
from cdckit.errors import UsageError
from cdckit.runtime.settings import Settings
from producer.decoding.router import Router
from producer.masking.mask_key import open_masker
from producer.masking.masker import Masker
from producer.masking.personal_data import looks_personal
from producer.masking.rules import TableColumn, check_masks, parse_masks
from producer.records import Origin, Record

ORIGIN = Origin("main", 1, "7", 1, "cdc")
USERS = Table("public", "users")
KEY = b"0123456789abcdef0123456789abcdef"


def masks(text: str) -> Masker:
    made = Masker(parse_masks(text), KEY)
    made.set_known_columns([TableColumn(USERS, name, name == "email") for name in ("email", "phone", "age", "note")])
    return made


def row(action: str, columns: dict[str, Any], identity: dict[str, Any] | None = None, pk: str = "email") -> bytes:
    def listed(values: dict[str, Any]) -> list[dict[str, Any]]:
        return [
            {"name": name, "type": "integer" if name == "age" else "text", "value": v} for name, v in values.items()
        ]

    parts: dict[str, Any] = {
        "action": action, "xid": 7, "timestamp": "2026-11-24 10:00:00+00", "lsn": "0/1", "schema": "public",
        "table": "users", "columns": listed(columns),
    }  # fmt: skip
    parts |= {"identity": listed(identity)} if identity is not None else {}
    if action == "D":
        del parts["columns"]
    return msgspec.json.encode({**parts, "pk": [{"name": pk, "type": "text"}]})


def routed(masking: str, *payloads: bytes) -> list[Record]:
    router = Router(ORIGIN, masker=masks(masking))
    router.begin(b'{"action":"B","lsn":"0/2","nextlsn":"0/3","timestamp":"2026-11-24 10:00:00+00"}')
    return [record for payload in payloads for record in router.route(payload)]


ANN = {"email": "ann@example.com", "phone": "+49 30 1234567", "age": 41, "note": "likes ünïcode"}


def test_no_plain_value_is_left_anywhere_and_other_columns_keep_theirs() -> None:
    found = routed(
        "public.users.email=hash,public.users.phone=last4,users.age=null,*.*.note=redact",
        row("I", ANN),
        row("U", {**ANN, "email": "bob@example.com"}, ANN),  # a key change under REPLICA IDENTITY FULL
        row("D", {}, ANN),
    )
    text = b"".join(record.partition_key.encode() + record.data for record in found)
    for secret in (b"ann@", b"bob@", b"1234567", b"41}", b"likes"):
        assert secret not in text
    inserted, gone, come, deleted = [decode(record.data) for record in found]
    assert inserted.after is not None
    assert inserted.after["phone"] == "…4567"
    assert inserted.after["age"] is None
    assert inserted.after["note"] == "[redacted]"
    assert inserted.key == gone.key == deleted.key != come.key
    assert found[0].partition_key == found[1].partition_key == found[3].partition_key
    assert inserted.types["email"] == "text"


def test_hashes_join_across_columns_and_types_and_stay_distinct() -> None:
    made = masks("users.email=hash")
    assert made.mask_value("hash", b'"42"') == made.mask_value("hash", b"42")
    assert made.mask_value("hash", b'"\\u00e9"') == made.mask_value("hash", '"é"'.encode())
    assert made.mask_value("hash", b"null") == msgspec.Raw(b"null")
    assert Masker((), b"x" * 32).mask_value("hash", b"42") != made.mask_value("hash", b"42")


@given(st.text(), st.text())
def test_equal_hashes_mean_equal_values(one: str, other: str) -> None:
    made = masks("users.email=hash")
    hashes = [bytes(made.mask_value("hash", json.dumps(value).encode())) for value in (one, other)]
    assert (hashes[0] == hashes[1]) == (one == other)


def test_short_values_are_not_shown_by_last4() -> None:
    assert bytes(masks("users.email=hash").mask_value("last4", b'"1234567"')) == '"…"'.encode()


def test_a_renamed_column_does_not_leave_the_host() -> None:
    renamed = {"email": "a", "tel": "+49 30 1234567"}
    for payload in (row("I", renamed), row("U", renamed)):
        with pytest.raises(UsageError, match="no column phone any more"):
            routed("users.phone=redact", payload)
    untouched = routed("users.phone=redact", row("U", {"email": "a", "age": 3}))  # phone is unchanged TOAST
    assert len(untouched) == 1


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("email=hash", "mask cannot be"),
        ("public.users.email", "mask cannot be"),
        ("public.users.email=md5", "no rule 'md5'"),
        ("public.users.mail=hash", "no such column"),
        ("public.user.email=hash", "no such column"),
        ("public.users.email=null", "part of the key"),
        ("*.*.email=redact", "part of the key"),
    ],
)
def test_nonsense_is_refused_with_what_mends_it(text: str, said: str) -> None:
    columns = [TableColumn(USERS, "email", key=True), TableColumn(USERS, "phone", key=False)]
    with pytest.raises(UsageError, match=said) as raised:
        check_masks(parse_masks(text), columns)
    assert raised.value.hint


def test_a_key_that_became_one_later_is_refused_too() -> None:
    with pytest.raises(UsageError, match="part of the key"):
        routed("users.phone=last4", row("I", ANN, pk="phone"))


def test_globs_that_match_nothing_yet_are_reported_and_quoted_names_are_no_globs() -> None:
    idle = check_masks(parse_masks('public.new_*.email=hash,"Odd.Sch"."T,x"."C=*"=null'), [
        TableColumn(Table("Odd.Sch", "T,x"), "C=*", key=False)
    ])  # fmt: skip
    assert [str(mask) for mask in idle] == ["public.new_*.email=hash"]


def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(mask="users.email=hash", data=str(tmp_path / "data"))
    first, second = open_masker(settings), open_masker(settings)
    assert first.mask_value("hash", b"1") == second.mask_value("hash", b"1")
    path = tmp_path / "data" / "mask.key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o644)
    with pytest.raises(UsageError, match="others may read"):
        open_masker(settings)
    (tmp_path / "short").write_bytes(b"guess")
    (tmp_path / "short").chmod(0o600)
    with pytest.raises(UsageError, match="could be guessed"):
        open_masker(Settings(mask="users.email=hash", mask_key=str(tmp_path / "short")))
    assert open_masker(Settings(mask="users.phone=null", data=str(tmp_path / "none"))).masks
    assert not (tmp_path / "none").exists(), "no hash, no key"


def test_what_looks_personal_and_is_not_masked() -> None:
    names = ("email", "firstName", "date_of_birth", "ship_id", "description", "ip_address", "total", "e_mail", "phone")
    found = looks_personal([(USERS, name) for name in names], parse_masks("*.*.phone=last4,users.email=hash"))
    assert found == [
        'public.users."firstName"', "public.users.date_of_birth", "public.users.ip_address", "public.users.e_mail",
    ]  # fmt: skip
