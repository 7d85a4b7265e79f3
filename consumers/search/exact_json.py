"""JSON in which numbers stay exact: integers of any size, decimals as `Decimal`."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

encode = msgspec.json.Encoder(decimal_format="number").encode
decode = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode
