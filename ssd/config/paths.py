"""Where the package and its configuration files are."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
# Beside the package in a checkout, inside it in an installed wheel.
CONF = next(folder for folder in (PACKAGE.parent / "conf", PACKAGE / "conf") if (folder / "config.yaml").is_file())
