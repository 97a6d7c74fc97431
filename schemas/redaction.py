"""Secrets out of what is kept or shown: manifests, reports, logs, error lines. Values in use are left as they are.

Three kinds are known. In a URI, what stands before the @ of its host and the values of parameters that authorise
(`?password=`, `;password=`, `&X-Amz-Signature=`). In a mapping, the text under a key that calls itself a secret. In
running text, `name=value` with such a name. A secret that is none of these (a password as a folder's name) is not
found: credentials belong into the environment, where nothing here looks.
"""

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"

# Whole words of a name: fs.s3a.secret.key and sessionToken are secrets, secretary and tokens are not.
_WORDS = (
    "password|passwd|passphrase|pwd|secret|token|credentials?|api_?key|access_?key|account_?key|private_?key|"
    "signature|sig|sas|authorization|bearer"
)
_NAME = re.compile(rf"(?:^|[^a-z])(?:{_WORDS})(?:$|[^a-z])")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# Passwords may hold anything but white space and quotes, also / and @; a port is none.
_URI_USER = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*:/{2,3})"
    r"(?:[^\s/@:\"'`]*:(?!\d{1,5}(?:[/,\s\"'`]|$))[^\s\"'`]*|[^\s/@\"'`]+)@(?=[^\s/])"
)
_ORACLE_USER = re.compile(r"(?P<scheme>jdbc:oracle:\w+:)[^\s@\"'`]+@")
_PAIR = re.compile(
    r"(?P<name>[A-Za-z][\w.-]*)(?P<sign>\s*=\s*)(?:(?P<quote>[\"'`])[^\"'`]*(?P=quote)?|[^\s\"'`,;&)\]}]+)"
)
_BEARER = re.compile(r"(?P<kind>\b(?:[Bb]earer|[Bb]asic)\s+)[A-Za-z0-9._~+/=-]{8,}")


def is_secret_name(name: str) -> bool:
    """Whether a key or parameter of this name holds something to hide."""
    return _NAME.search(_CAMEL.sub("_", name).lower()) is not None


def text(said: str) -> str:
    """The same text with the secrets in its URIs and `name=value` pairs hidden."""
    said = _URI_USER.sub(rf"\g<scheme>{HIDDEN}@", said)
    said = _ORACLE_USER.sub(rf"\g<scheme>{HIDDEN}@", said)
    said = _BEARER.sub(rf"\g<kind>{HIDDEN}", said)
    return _PAIR.sub(_hidden_pair, said)


def document(value: Any) -> Any:
    """The same document (mappings, lists, scalars) with its secrets hidden; other values are the very same."""
    if isinstance(value, Mapping):
        return {key: _under(key, held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [document(held) for held in value]
    return text(value) if isinstance(value, str) else value


def _under(key: Any, value: Any) -> Any:
    if isinstance(value, str) and isinstance(key, str) and is_secret_name(key):
        return HIDDEN
    return document(value)


def _hidden_pair(found: "re.Match[str]") -> str:
    if not is_secret_name(found["name"]):
        return found[0]
    quote = found["quote"] or ""
    return f"{found['name']}{found['sign']}{quote}{HIDDEN}{quote}"
