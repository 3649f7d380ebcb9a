"""rerun=RUN: the saved configuration of a run again, with the overrides beside it as changes.

    python -m ssd.run rerun=outputs/train/small_128_shapes/2026-01-31_12-00-00.000000 epochs=100

The command line of the run, and the new overrides, compose the configuration of today. Where that differs
from the run's overrides alone, the new overrides have changed something, and that counts; everywhere else the saved
values of the run do, so that defaults which have changed since then change nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from ssd.config.commands import own_config_dirs
from ssd.config.compose import compose
from ssd.config.overrides import override, search_path, value_of
from ssd.config.schema import Config
from ssd.config.targets import literal
from ssd.runs.saved import CONFIG, OVERRIDES, allowed_overrides, called, read_config, read_overrides, without_personal
from ssd.utils.errors import UserError

KEY = "rerun"


def saved_overrides(overrides: Sequence[str]) -> list[str]:
    """The command line of the run that rerun= names, as far as it chose the configuration; [] without rerun=.

    Errors: UserError for a folder that is no run.
    """
    named = value_of(overrides, KEY)
    if not named:
        return []
    run = Path(named)
    if not (run / CONFIG).is_file() or not (run / OVERRIDES).is_file():
        raise UserError(f"rerun={run}: no run directory, it lacks config.yaml or .hydra/overrides.yaml")
    # A run that was interrupted and resumed is repeated as a new one, from its beginning.
    said = [item for item in read_overrides(run / OVERRIDES) if not str(item).startswith((f"{KEY}=", "resume="))]
    return allowed_overrides(said, f"rerun={run}")


def as_saved(cfg: DictConfig) -> DictConfig:
    """cfg with the values of the run that cfg.rerun names, except what overrides change; cfg itself if that is null.

    Errors: UserError when the saved configuration no longer fits the program.
    """
    if cfg.get(KEY) is None:
        return cfg
    run = Path(cfg.rerun)
    overrides = saved_overrides([override(KEY, str(run))])
    if folders := own_config_dirs():
        overrides = [search_path(folders), *overrides]
    then, now = _plain(compose(overrides)), _plain(cfg)
    values = changed(without_personal(read_config(run / CONFIG)), then, now) | {KEY: str(run), "resume": now["resume"]}
    for name, value in values.items():
        if reason := called(value, name):
            raise UserError(f"rerun={run}: {reason}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(Config), literal(values))
    except OmegaConfBaseException as error:
        raise UserError(f"rerun={run}: its configuration no longer fits ({str(error).splitlines()[0]})") from error
    assert isinstance(merged, DictConfig)
    return merged


def changed(saved: Mapping[str, Any], then: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """`saved` with what differs between `then` and `now`, at any depth; lists count as one value.

    A key that `saved` lacks is one that the program has learned since, one that `then` and `now` lack is one that the
    run has found out by itself.
    """
    result: dict[str, Any] = {}
    for key in dict.fromkeys([*saved, *now]):
        if key in then and key not in now:
            continue
        if key not in saved or (key in now and key not in then):
            result[key] = now[key]
        elif key not in now:
            result[key] = saved[key]
        elif all(isinstance(part[key], Mapping) for part in (saved, then, now)):
            result[key] = changed(saved[key], then[key], now[key])
        else:
            result[key] = saved[key] if then[key] == now[key] else now[key]
    return result


def _plain(cfg: Any) -> dict[str, Any]:
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return plain
