"""``cdcctl doctor``: checks each prerequisite of the database, AWS and this machine."""
