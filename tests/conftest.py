"""Fixtures that every room may use."""

pytest_plugins = ["tests.support.database", "tests.support.redis", "tests.support.hub_server"]
