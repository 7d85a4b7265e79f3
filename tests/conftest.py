"""One fixture plugin a real server; no test is timed."""

from hypothesis import settings

pytest_plugins = [
    "tests.postgres",
    "tests.local_aws",
    "tests.resharding_aws",
    "tests.opensearch",
    "tests.lambda_package",
    "tests.calling",
]

settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
