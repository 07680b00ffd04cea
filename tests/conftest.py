"""What every test shares: the options of the command line, and what they decide."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from tests.servers import ServerMissing

# The profile that Hypothesis has chosen (where CI is set, the same examples each time), but
# without 200 ms for an example: a machine that stands still is no failure.
settings.register_profile("ofevents", settings(), deadline=None)
settings.load_profile("ofevents")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-servers",
        action="store_true",
        help="a server that cannot be had is a failure, not a skip (CI)",
    )
    parser.addoption(
        "--seed",
        type=int,
        default=os.environ.get("OFEVENTS_SEED"),
        help="what random tests draw from; default: OFEVENTS_SEED, or one at random",
    )
    parser.addoption(
        "--soak-minutes", type=float, default=30.0, help="how long `make soak` takes (30)"
    )


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Of a random test; it is shown with a failure, and `--seed` runs the same again."""
    given = request.config.getoption("--seed")
    drawn = random.SystemRandom().randrange(1_000_000) if given is None else int(given)
    sys.stdout.write(f"--seed {drawn}\n")
    return drawn


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """A verb that was run in this process configures logging; the next test has its own."""
    yield
    structlog.reset_defaults()


def _missing(error: BaseException | None) -> ServerMissing | None:
    """The ServerMissing inside an exception group, or itself."""
    if isinstance(error, ServerMissing):
        return error
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            if found := _missing(inner):
                return found
    return None


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """A test that meets ServerMissing is skipped, or failed with --require-servers."""
    try:
        return (yield)
    except BaseException as error:
        missing = _missing(error)
        if missing is None or pyfuncitem.config.getoption("--require-servers"):
            raise
        pytest.skip(str(missing))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """As above, for a fixture that starts a server, whatever its scope."""
    try:
        return (yield)
    except BaseException as error:
        missing = _missing(error)
        if missing is None or item.config.getoption("--require-servers"):
            raise
        pytest.skip(str(missing))
