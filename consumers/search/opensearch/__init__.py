"""The engine for when one host is outgrown: OpenSearch, one index a generation behind two aliases."""
