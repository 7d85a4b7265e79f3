"""Flags over environment over file over default; bad input says what mends it; secrets are masked."""

import pytest

from cdckit.errors import UsageError
from cdckit.runtime.settings import mask_password, resolve


def test_the_nearest_wins_and_says_where_it_is_from() -> None:
    toml = 'slot = "from_file"\nstream = "file"\nsource = "file"\n'
    settings, origins = resolve({"stream": "flag"}, {"CDC_STREAM": "env", "CDC_SOURCE": "env"}, toml)
    assert (settings.stream, settings.source, settings.slot, settings.app_prefix) == ("flag", "env", "from_file", "cdc")
    where = {origin.name: origin.origin for origin in origins}
    assert where["stream"] == "flag --stream"
    assert where["source"] == "environment CDC_SOURCE"
    assert where["slot"] == "cdc.toml"
    assert where["app_prefix"] == "default"


def test_a_consumers_table_reaches_its_sink() -> None:
    settings, _ = resolve({}, {}, "[consumers.search]\ntokenizer = 'trigram'\n")
    assert settings.options("search") == {"tokenizer": "trigram"}
    assert settings.options("audit") == {}


@pytest.mark.parametrize(
    ("toml", "said"),
    [
        ("stream = ", "not valid TOML"),
        ("strem = 'x'", "unknown key 'strem'"),
        ("stream = 3", "must be a string"),
        ("stream = 'a b'", "stream cannot be"),
        ("slot = 'Upper'", "slot cannot be"),
        ("log_format = 'xml'", "log_format is"),
        ("checkpoint_seconds = 'soon'", "checkpoint_seconds cannot be"),
        ("consumers = 3", "must be tables"),
    ],
)
def test_bad_settings_are_named_with_what_mends_them(toml: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        resolve({}, {}, toml)
    assert raised.value.hint


@pytest.mark.parametrize(
    "dsn",
    [
        "postgresql://cdc:s3cret@db.example.com:5432/shop",
        "host=db password=s3cret dbname=shop",
        "host=db password = 's3cret' dbname=shop",
    ],
)
def test_passwords_are_masked(dsn: str) -> None:
    assert "s3cret" not in mask_password(dsn)
    assert "***" in mask_password(dsn)
    assert "shop" in mask_password(dsn)
