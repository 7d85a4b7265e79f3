"""One fixture plugin a real server."""

pytest_plugins = ["tests.postgres", "tests.local_aws", "tests.resharding_aws", "tests.opensearch"]
