"""The configuration composed outside of the command line, its resolvers, and what is wrong with its values.

    from ssd.config import compose
    cfg = compose(["backbone=resnet50", "data_shape=512"])      # what the runner gets for the same overrides

Names and types of the keys are in ssd/config/schema.py, values and their comments in conf/.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from ssd.config.overrides import current_overrides, groups, hydra_choices, normalize
from ssd.config.paths import CONF, PACKAGE
from ssd.config.resolvers import register
from ssd.config.text import is_list, is_text, quoted
from ssd.config.validate import validate
from ssd.utils.errors import UserError, did_you_mean
from ssd.utils.flatten import leaves

# Hydra looks for sweepers and launchers in the packages hydra_plugins.* of the path.
sys.path.append(str(PACKAGE / "sweeps" / "plugins"))
register()


@contextmanager
def _no_other_hydra() -> Iterator[None]:
    """Puts aside the Hydra that runs this program, if one does: composing starts another, and there is room for one."""
    outer = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        yield
    finally:
        GlobalHydra.instance().hydra = outer


def compose(overrides: Sequence[str] = ()) -> DictConfig:
    """The validated configuration for these command-line overrides.

    Errors: UserError in one line for a misspelled key, an unknown choice, or a value of the wrong type.
    """
    overrides = normalize(current_overrides(overrides))
    try:
        with _no_other_hydra(), initialize_config_dir(str(CONF), version_base="1.3"):
            cfg = hydra_compose("config", overrides=overrides)
        validate(cfg)
    except UserError:
        raise
    except Exception as error:
        raise UserError(explain(error, overrides)) from error
    return cfg


def explain(error: Exception, overrides: Sequence[str]) -> str:
    """Hydra's and OmegaConf's exceptions as one line: what, where, what would be right."""
    text = str(error)
    if isinstance(error, UserError):
        return text
    cause = error.__cause__ or error.__context__
    if cause is not None and str(cause) not in text:
        text = f"{text}\n{cause}"
    if match := re.search(r"UserError raised while resolving interpolation: (.*)", text):
        return match[1]
    if match := re.search(r"Could not find '([^']+)/([^'/]+)'", text):
        group, choice = match[1], match[2]
        options = groups().get(group) or hydra_choices(group)
        return f"{group}={choice}: no such choice{_near(choice, options)}; choose from {', '.join(options)}"
    if match := re.search(r"Ambiguous value for argument '([^']+)'", text):
        key, _, value = match[1].partition("=")
        text = f', text with a comma in quotes: "{key}={quoted(value)}"' if is_text(key) and not is_list(key) else ""
        return f"{match[1]}: several values make a sweep, which needs -m; a list is written [a,b]{text}"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if match := re.search(r"Could not (?:override|delete from config\.) ?'?([\w.@/]+)", text):
        return f"no key or group {match[1]!r}{_near(match[1], known_keys())}; all keys: ssd --cfg job"
    if match := re.match(r"Error merging override (.*)", text):
        return f"{match[1]}: {lines[1] if len(lines) > 1 else 'wrong type'}"
    if match := re.search(r"full_key: (\S+)", text):
        return f"{match[1]}: {lines[0]}"
    if lines and type(error).__name__ == "OverrideParseException":
        return f"cannot read {' '.join(overrides)!r} ({lines[0]}); overrides have the form key=value"
    return " ".join(lines)


def lacks_plugin(error: BaseException | None) -> bool:
    """Whether an exception comes from a launcher or sweeper, or from what it is built on, not being installed."""
    while error is not None:
        name = error.name if isinstance(error, ModuleNotFoundError) else None
        if (name or "").split(".")[0] in ("hydra_plugins", "optuna", "submitit", "joblib"):
            return True
        if "Unknown plugin class : 'hydra_plugins." in str(error):
            return True
        error = error.__cause__ or error.__context__
    return False


def known_keys() -> list[str]:
    """Every dotted key of the default configuration, and the names of the groups."""
    tree: Any = OmegaConf.to_container(compose([]), resolve=False)
    parts = [key.split(".") for key in leaves(tree)]
    return sorted({".".join(names[:end]) for names in parts for end in range(1, len(names) + 1)} | set(groups()))


def _near(override: str, candidates: Sequence[str]) -> str:
    hint = did_you_mean(override, candidates)
    return f" ({hint})" if hint else ""
