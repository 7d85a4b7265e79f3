"""Messages that wal2json writes wrongly are repaired, and valid ones are left alone."""

import json

import msgspec
from hypothesis import given
from hypothesis import strategies as s

from cdckit.relation import RelationColumn
from producer.decoding.repair import decode_repaired, needs_repair, repair_types, with_key

NAME = s.text(s.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def printed(kind: str) -> str:
    """A type's name as wal2json prints it (`wal2json.c`: a name that begins with a quote is not escaped)."""
    return kind if kind.startswith('"') and not kind.endswith("]") else json.dumps(kind)


@given(NAME, NAME, NAME, s.sampled_from(["", "(3)", "(10,2)"]))
def test_any_type_in_any_schema_is_read_back(schema: str, name: str, value: str, length: str) -> None:
    kind = f"{quoted(schema)}.{quoted(name)}{length}"
    if any(ord(letter) < 32 for letter in kind):
        return  # control characters are not escaped either: such a message is refused
    text = json.dumps(value, ensure_ascii=False)
    column = f'{{"name":"c","type":{printed(kind)},"value":{text}}}'
    message = f'{{"action":"I","schema":"public","table":"t","columns":[{column}],"pk":[{column}]}}'.encode()
    [found] = json.loads(repair_types(message))["columns"]
    assert (found["type"], found["value"]) == (kind, value)
    assert needs_repair(kind)


@given(NAME, NAME)
def test_valid_messages_are_not_touched(kind: str, value: str) -> None:
    column = {"name": "c", "type": kind, "value": value}
    row = {"action": "I", "schema": "public", "table": "t", "columns": [column], "pk": []}
    message = msgspec.json.encode(row)
    assert decode_repaired(message)[0] is message


def test_the_key_of_the_identity_s_index_replaces_the_printed_one() -> None:
    message = b'{"action":"I","columns":[{"name":"id","value":",\\"pk\\":["}],"pk":[{"name":"id","type":"integer"}]}'
    found = json.loads(with_key(message, [RelationColumn(2, "code", "text")]))
    assert found["pk"] == [{"name": "code", "type": "text"}]
    assert found["columns"] == json.loads(message)["columns"]
