import pytest

from mrqm.config import ConfigError
from mrqm.data import DataError
from pipelines.compute.session import ResourceError
from pipelines.errors import is_users_error


@pytest.mark.parametrize("error", [ConfigError("x"), DataError("x"), ResourceError("x")])
def test_the_projects_own_value_errors_are_the_users(error: ValueError) -> None:
    assert is_users_error(error)


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), UnicodeDecodeError("utf8", b"", 0, 1, "x")])
def test_other_errors_are_ours(error: Exception) -> None:
    assert not is_users_error(error)
