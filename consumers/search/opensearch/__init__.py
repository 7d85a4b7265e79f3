"""The OpenSearch engine, for an index that needs more than one host: one index per generation, behind two aliases."""
