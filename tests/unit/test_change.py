"""Tables' names and rows' ids are unambiguous."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdckit.change import Table, key_text
from cdckit.testing import change

names = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=63)


@given(names, names)
def test_any_table_name_prints_and_parses(schema: str, name: str) -> None:
    table = Table(schema, name)
    assert Table.parse(str(table)) == table


@given(st.lists(st.tuples(names, names), min_size=2, max_size=2, unique=True))
def test_two_tables_never_print_alike(pairs: list[tuple[str, str]]) -> None:
    one, other = (str(Table(*pair)) for pair in pairs)
    assert one != other


def test_a_bare_name_is_in_the_schema_public() -> None:
    assert Table.parse("orders") == Table("public", "orders")


@pytest.mark.parametrize("text", ["", ".", "a.", "a.b.c", '"a', 'a"b"'])
def test_what_is_no_table_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a table's name"):
        Table.parse(text)


def test_row_ids_tell_a_number_from_its_text() -> None:
    assert change("I", 42).row_id == "main/public.orders/[42]"
    assert change("I", "42").row_id == 'main/public.orders/["42"]'


def test_composite_keys_do_not_run_together() -> None:
    assert key_text({"a": "x,y", "b": "z"}) != key_text({"a": "x", "b": "y,z"})
