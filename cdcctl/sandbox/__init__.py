"""``cdcctl local``: runs a private PostgreSQL and a local AWS on this machine."""
