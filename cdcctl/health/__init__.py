"""How the whole way of a change is, from the WAL to the satellites: what `status` and `top` show."""
