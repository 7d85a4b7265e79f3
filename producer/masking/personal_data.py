"""Finds columns whose names suggest personal data; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

from cdckit.change import Table, quote_name
from producer.masking.rules import Mask, rule_of

_WORDS_ALONE = frozenset(
    re.findall(
        r"\w+",
        "email mail phone telephone tel mobile cell fax firstname lastname fullname surname forename username birth "
        "birthday birthdate dob ssn passport iban bic creditcard card cvv address street zip zipcode postcode postal "
        "ip password passwd pwd secret token salary gender sex religion nationality latitude longitude lat lng lon "
        "geolocation taxid vat license licence",
    )
)
_PAIRS = frozenset(
    tuple(pair.split("_"))
    for pair in (
        "first_name", "last_name", "full_name", "middle_name", "user_name", "social_security", "tax_id", "national_id",
        "account_number", "date_birth", "e_mail",
    )
)  # fmt: skip
_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


def looks_personal(columns: Iterable[tuple[Table, str]], masks: Sequence[Mask]) -> list[str]:
    """Return the columns, as ``public.users.email``, whose names look personal and that no mask covers."""
    return [
        f"{table}.{quote_name(column)}"
        for table, column in columns
        if _personal(column) and rule_of(masks, table, column) is None
    ]


def _personal(column: str) -> bool:
    words = [word.lower() for word in _WORDS.findall(column) if word.lower() != "of"]
    return bool(_WORDS_ALONE.intersection(words)) or any(pair in _PAIRS for pair in pairwise(words))
