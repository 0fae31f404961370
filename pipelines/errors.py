"""Which errors are the user's to mend, wherever they were raised."""

_LAYERS = {"mrqm", "pipelines", "tune", "cluster"}


def is_users_error(error: BaseException) -> bool:
    """Whether an error is one of this project's own ValueErrors, whose message says what to change."""
    return isinstance(error, ValueError) and type(error).__module__.partition(".")[0] in _LAYERS
