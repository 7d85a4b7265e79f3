"""A laptop's stand-in for the cloud side: a private PostgreSQL cluster and a local AWS, under one data folder."""
