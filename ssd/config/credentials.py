"""Credentials in addresses: used for the connection, and kept nowhere else.

A tracking server or a database may be named with a password: http://user:password@host, postgresql+psycopg2://…,
https://host?token=…. What the user gives (command line, YAML files, environment) goes through `take`, `take_overrides`
or `take_values` before anything else sees it. They keep the whole address for this process and those it starts, and
return the bare one, which may be stored, logged and sent. Whoever connects requests the whole one with `whole`.

What other programs report may hold credentials, too: `scrubbed` removes them, from every log line after `guard`.

Imports nothing heavy.
"""

import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from types import NoneType, TracebackType
from typing import Any
from urllib.parse import unquote

from omegaconf import DictConfig, ListConfig, Node, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssd.utils.errors import UserError
from ssd.utils.flatten import map_texts

KEPT = "SSD_CREDENTIALS"  # environment variable: bare address -> whole one, as JSON
TRACKING = "MLFLOW_TRACKING_URI"  # environment variable of MLflow's
GIVE = f"MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN or {TRACKING}"
OWN = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN")  # environment variables that are secrets themselves
HIDDEN = "***"
SIGNS = ("://", "oc.env", "tracking_uri=")  # of an override that is looked at
SHORTEST = 6  # characters of a secret that is removed where it stands alone; shorter ones are parts of ordinary text

SCHEME = r"[A-Za-z][A-Za-z0-9+.-]{0,30}://"  # bounded, so that long texts are searched in linear time
START = re.compile(SCHEME)
# In text: up to white space or a quote, and to a comma behind which another one starts. "]" and "}" end a list.
IN_TEXT = re.compile(rf"{SCHEME}(?:\$\{{[^}}\s]*\}}|(?!,\s*{SCHEME})[^\s'\"<>\]}}])*")
IN_LIST = re.compile(rf"{SCHEME}(?:\$\{{[^}}\s]*\}}|[^\s'\"<>\]}},])*")  # of an override, or a mapping
DATABASES = ("sqlite:///", "sqlite+pysqlite:///")
FILES = (*DATABASES, "file:///")  # names of files, in which any character may be; in those of databases but ?
HOST = re.compile(r"(\[[^\]]*\]|[^:\[\]]*)(:\d+)?")
USER = re.compile(r"[^:/]*(?::[^?]*|:.*)?@", re.DOTALL)  # as SQLAlchemy reads it: a password may contain / and ?
INTERPOLATED = re.compile(r"\$\{[^}]*\}")
SECRET = re.compile(
    r"(pass(word|wd|phrase|code)?|pwd|token|secret|api_?key|access_?key(_?id)?|credentials?|signature|authorization|jwt|session_?id)$"
    r"|(^|[^a-z])(key|auth|sig|pat|sid)$|^(code|session)$"
)
SECRET_INSIDE = re.compile(r"(?i)(pwd|password|token|secret)\s*=")  # of a parameter that holds others (odbc_connect)


def bare(address: str) -> str:
    """The address without user, password and parameters that are secrets; it stays what it is if it has none.

    A user alone stays in the address of a database, where it is no secret: postgresql://bob@host/runs.
    """
    if not (scheme := START.match(address)):
        return address
    if address.startswith(FILES):
        path, mark, parameters = address.partition("?")
        kept = _harmless(parameters, "&") if address.startswith(DATABASES) else parameters
        return path + (mark if kept else "") + kept
    rest = address[scheme.end() :]
    user = _user(rest, scheme[0].lower().startswith("http"))
    if ":" in user or scheme[0].lower() in ("http://", "https://"):
        rest = rest[len(user) :]
    path = re.split("[?#]", rest, maxsplit=1)[0]
    rest = _harmless(path, ";") + rest[len(path) :]
    for mark in "?#":
        front, found, parameters = rest.partition(mark)
        if found:
            parameters, other, tail = parameters.partition("#") if mark == "?" else (parameters, "", "")
            kept = _harmless(parameters, "&")
            rest = front + (mark if kept else "") + kept + other + tail
    return scheme[0] + rest


def _harmless(parameters: str, separator: str) -> str:
    """Those parameters that are no secrets."""
    return separator.join(one for one in parameters.split(separator) if not _is_secret(one))


def is_cut_short(address: str) -> bool:
    """Whether an address out of a text seems to end within its password, at a character that it did not have to end
    at: it has something behind a colon that is no port, and no @."""
    scheme = START.match(address)
    if scheme is None or address.startswith(FILES) or "${" in address:
        return False
    authority = re.split(r"[/?#]", address[scheme.end() :], maxsplit=1)[0]
    return ":" in authority and "@" not in authority and not HOST.fullmatch(authority)


def _user(rest: str, web: bool) -> str:
    """The user and password in front of a host, with the @ behind them; "" for none."""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if "@" in authority:
        return authority[: authority.rindex("@") + 1]
    # A password with a / ? or # in it, which nobody has encoded.
    if web:
        return "" if HOST.fullmatch(authority) else rest[: rest.rfind("@") + 1]
    match = USER.match(rest)
    return match[0] if match else ""


def _is_secret(parameter: str) -> bool:
    name, _, value = parameter.partition("=")
    return bool(SECRET.search(unquote(name).lower()) or SECRET_INSIDE.search(unquote(value)))


def take(text: str) -> str:
    """An address, or any other text, without the credentials in it; `whole` knows them from now on. Variables of the
    environment in it (${oc.env:…}) are resolved where they hold any.

    Errors: UserError where parts of the credentials come from other keys, which are not known here.
    """
    resolved = _resolved(text) if "${" in text else text
    if resolved is None:
        if any(_secrets_in(INTERPOLATED.sub("", text))):
            raise UserError(
                f"{bare(text)}: has credentials and references to other keys (${{…}}); write it out, or reference only "
                "variables of the environment: ${oc.env:NAME}"
            )
        return text
    address = _bare_text(resolved)
    if address == resolved:
        return text
    os.environ[KEPT] = json.dumps({**_kept(), address: resolved})
    return address


def _resolved(text: str) -> str | None:
    """A text with the values of its interpolations; None if these need other keys."""
    try:
        return str(OmegaConf.create({"text": text}).text)
    except OmegaConfBaseException:
        return None


def take_values(node: Any) -> Any:
    """Plain data with the credentials taken out of every text."""
    return map_texts(node, take)


def take_config(cfg: Any) -> None:
    """Takes the credentials out of what the interpolations of a composed configuration, a node of OmegaConf, become."""
    for key in list(cfg) if isinstance(cfg, DictConfig) else range(len(cfg)):
        node = cfg._get_node(key)
        content = node._value() if isinstance(node, Node) else None
        if isinstance(node, (DictConfig, ListConfig)) and not isinstance(content, (str, NoneType)):
            take_config(node)
        elif isinstance(content, str) and ("://" in content or "${" in content):
            try:
                text = cfg[key]
            except OmegaConfBaseException:  # which is reported where the key is used
                continue
            if isinstance(text, str) and (address := take(text)) != text:
                cfg[key] = re.sub(r"(\\*)\$\{", r"\1\1\\${", address)  # no interpolation


def whole(address: str) -> str:
    """The address to connect to: with the credentials that were taken from it, or from one of which it is a part, or
    that the environment's MLFLOW_TRACKING_URI has for it."""
    known = _kept()
    if said := os.environ.get(TRACKING):
        known = {bare(said): said, **known}
    if address in known:
        return known[address]
    for base, full in known.items():
        if "?" not in full and address.startswith(f"{base.rstrip('/')}/"):
            return full.rstrip("/") + address[len(base.rstrip("/")) :]
    return address


def whole_values(node: Any) -> Any:
    """Plain data with the credentials in it again, for what connects by itself."""
    known = _kept()
    return map_texts(node, lambda text: known.get(text, text))


def bare_values(node: Any) -> Any:
    """Plain data out of a file, without credentials; nothing is remembered of them."""
    return map_texts(node, lambda text: _bare_text(text) if "://" in text else text)


def environment() -> dict[str, str]:
    """The environment for a process that connects to no server: without what was taken, and what is secret."""
    return {name: value for name, value in os.environ.items() if name not in (KEPT, *OWN)}


def missing(address: str) -> str:
    """What to say where a server has refused a request; "" if credentials are there that it may not want."""
    if whole(address) != address or any(os.environ.get(name) for name in OWN):
        return ""
    return f"; a run keeps no credentials, give them again: {GIVE}"


def scrubbed(text: str) -> str:
    """A text of another program without the credentials of any address, and without those that are known."""
    known = _kept()
    for address, full in known.items():
        text = text.replace(full, address)
    if "://" in text:
        text = _bare_text(text)
    for secret in _secrets(known.values()):
        if secret in text:
            text = re.sub(rf"(?<!\w){re.escape(secret)}(?!\w)", HIDDEN, text)
    return text


def _bare_text(text: str) -> str:
    """A text without the credentials of the addresses in it. One that begins with an address may be nothing else, with
    any characters in its password."""
    if START.match(text.lstrip()) and "\n" not in text.strip():
        text = bare(text.strip()) if bare(text.strip()) != text.strip() else text
    return IN_TEXT.sub(lambda match: bare(match[0]), text)


def _secrets(addresses: Any) -> Iterator[str]:
    """The passwords and secret parameters of whole addresses, longest first, as they are and decoded."""
    found = {os.environ.get(name, "") for name in OWN}
    for address in [*addresses, os.environ.get(TRACKING, "")]:
        found.update(_secrets_in(address))
    both = {*found, *map(unquote, found)}
    yield from sorted((secret for secret in both if len(secret) >= SHORTEST), key=len, reverse=True)


def _secrets_in(address: str) -> Iterator[str]:
    if address.startswith(DATABASES):
        yield from (one.partition("=")[2] for one in re.split("[?&]", address)[1:] if _is_secret(one))
    elif (scheme := START.match(address)) and not address.startswith(FILES):
        rest = address[scheme.end() :]
        user = _user(rest, scheme[0].lower().startswith("http"))
        name, colon, password = user[:-1].partition(":")
        yield password if colon else name
        yield from (one.partition("=")[2] for one in re.split("[?&#;]", rest[len(user) :]) if _is_secret(one))


def _kept() -> dict[str, str]:
    kept: dict[str, str] = json.loads(os.environ.get(KEPT, "{}"))
    return kept


def guard() -> None:
    """From now on no log line and no traceback of this process holds credentials; harmless when repeated."""
    make = logging.getLogRecordFactory()
    if getattr(make, "scrubs", False):
        return

    def scrubbing(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make(*arguments, **options)
        try:
            message = record.getMessage()
        except Exception:  # which the handler reports
            return record
        if (clean := scrubbed(message)) != message:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[0]:
            record.exc_text = scrubbed("".join(traceback.format_exception(*record.exc_info)).rstrip("\n"))
        return record

    scrubbing.scrubs = True  # type: ignore[attr-defined]
    logging.setLogRecordFactory(scrubbing)
    sys.excepthook = _report


def _report(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    sys.stderr.write(scrubbed("".join(traceback.format_exception(kind, error, trace))))
