"""job=models: the weights that can be had by name, for init.weights= and model=."""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import urlsplit

from omegaconf import DictConfig, OmegaConf

from ssd.config.overrides import key_of
from ssd.config.weights import Weights, read_entry, registered
from ssd.utils.atomic_files import write_json
from ssd.utils.text_table import text_table
from ssd.weights.cache import cache_folder, find

log = logging.getLogger(__name__)

HEADER = ("name", "kind", "for", "MB", "from", "accuracy", "cached")
UNKNOWN = "not published"


@dataclass(frozen=True)
class Row:
    """kind: backbone or detector. suits: backbones, or the network of a detector. size: bytes, None where nobody knows;
    of a cached file its own, else of the download. source: the host it comes from. cached: its file in the cache."""

    name: str
    kind: str
    suits: str
    size: int | None
    source: str
    accuracy: str | None
    license: str | None
    cached: str | None


def run(cfg: DictConfig, folder: Path) -> None:
    """Logs a table and writes models.json into the run directory. Errors: UserError for a damaged entry."""
    OmegaConf.save(cfg, folder / "config.yaml", resolve=True)
    rows = [_row(read_entry(name)) for name in registered()]
    write_json(folder / "models.json", [asdict(row) for row in rows])
    for line in text_table(HEADER, [_cells(row) for row in rows], left=len(HEADER)):
        log.info("%s", line)
    log.info("init.weights=NAME starts a training, imagenet with the default of its backbone; model=NAME "
             "takes a detector; the cache is %s", cache_folder())  # fmt: skip


def _row(entry: Weights) -> Row:
    cached = find(entry)
    groups = [override for override in entry.overrides if "." not in key_of(override)]
    return Row(
        name=entry.name,
        kind=entry.kind,
        suits=" ".join(groups or (f"backbone={one}" for one in entry.backbones)),
        size=entry.size if cached is None else cached.stat().st_size,
        source=urlsplit(entry.url[0]).netloc or "this machine" if entry.url else "made by hand",
        accuracy=entry.accuracy,
        license=entry.license,
        cached=None if cached is None else str(cached),
    )


def _cells(row: Row) -> list[str]:
    size = "unknown" if row.size is None else f"{row.size / 1e6:.1f}"
    return [row.name, row.kind, row.suits, size, row.source, row.accuracy or UNKNOWN, "yes" if row.cached else "no"]
