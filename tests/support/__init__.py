"""Helpers of the tests: servers, fault injection, generators, oracles."""
