"""Redaction of secrets: passwords and tokens in URIs are replaced by `***`.

redact("postgresql://me:hunter2@host/db?sslmode=require")  # postgresql://me:***@host/db?sslmode=require

A configuration refuses such URIs (`mrqm.config`), so that checkpoints, parameters and models hold none. Those that come
from the environment or from messages of other programs are replaced on their way out: in messages and logs, in files
of a run, in printed commands, and in everything sent to MLflow and Ray.
"""

from __future__ import annotations

import logging
import re
import sys
import traceback
from types import TracebackType
from urllib.parse import unquote

MASK = "***"
_END = r"\s\"<>`\\"
"""Characters that end a URI in a text, so that JSON and YAML stay valid. An apostrophe ends a URI only at its end."""
_SCHEME = r"\b[A-Za-z][A-Za-z0-9+.-]{0,30}"
_INSIDE = rf"(?!{_SCHEME}://)"
_USER = rf"[^{_END}@/?#:]{{0,100}}:(?!:)[^{_END}@]{{0,200}}@"
"""Regular expression of a user with a password, which may hold `://`; two colons chain file systems, as in
`zip://a.zip::s3://…`.
"""
_URI = re.compile(rf"(?P<scheme>{_SCHEME})://(?P<rest>(?:{_USER})?(?:{_INSIDE}[^{_END}])*{_INSIDE}[^{_END}'])")
_ANY_USER = re.compile(r"://[^/?#\s]*:[^/?#\s]*@")
_PARAMETER = re.compile(rf"(?P<begin>[?&;#])(?P<name>[^?&;#={_END}]+)=(?P<value>[^&;#{_END}]*[^&;#{_END}'])")
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|credential|signature|session|auth(?!or(s|ity)?$)|jwt|bearer|^(sig|sas|code|key|odbcconnect)$"
    r"|(api|access|account|private|shared|storage|master|subscription|encryption)key|awsaccesskeyid|googleaccessid"
)
"""Regular expression of names of secret query parameters, in lower case without punctuation."""
_HOST_AND_PORT = re.compile(r"(\[[^\]]*\]|[^:]+):\d+")


def redact(text: str) -> str:
    """Replace the passwords, tokens and signed queries of all URIs in a text.

    A user's name stays, except where it stands alone in an HTTP address, because there it is often a token.
    """
    return _URI.sub(_without_secrets, text)


def holds_secret(text: str) -> bool:
    """Tell whether a value, such as a setting, is a URI with a password or token, whatever characters it contains."""
    return redact(text) != text or _ANY_USER.search(text) is not None


def guard_output() -> None:
    """Redact all log messages and uncaught tracebacks of this process, including those of libraries."""
    logging.setLogRecordFactory(_RedactedRecord)
    sys.excepthook = _print_redacted


def _without_secrets(uri: re.Match[str]) -> str:
    scheme, rest = uri["scheme"], uri["rest"]
    user, address = _split_user(rest)
    name, colon, _ = user.partition(":")
    if colon:
        user = f"{name}:{MASK}@"
    elif user:
        user = f"{MASK}@" if scheme.lower() in ("http", "https") else f"{name}@"
    return f"{scheme}://{user}{_PARAMETER.sub(_without_value, address)}"


def _split_user(rest: str) -> tuple[str, str]:
    """Split the part of a URI after `://` into user with password, which may hold `/`, `?` and `@`, and the rest."""
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        cut = authority.rindex("@")
    elif ":" in authority and "@" in rest and not _HOST_AND_PORT.fullmatch(authority):
        cut = rest.rindex("@")
    else:
        return "", rest
    return rest[:cut], rest[cut + 1 :]


def _without_value(parameter: re.Match[str]) -> str:
    name = re.sub("[^a-z0-9]", "", unquote(parameter["name"]).lower())
    if _SECRET_NAME.search(name) or holds_secret(unquote(parameter["value"])):
        return f"{parameter['begin']}{parameter['name']}={MASK}"
    return parameter[0]


class _RedactedRecord(logging.LogRecord):
    def getMessage(self) -> str:  # noqa: N802 (logging's own name)
        return redact(super().getMessage())


def _print_redacted(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(redact("".join(traceback.format_exception(kind, error, trace))))
