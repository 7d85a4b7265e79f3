"""``cdcctl local``: a private PostgreSQL and a local AWS on this machine."""
