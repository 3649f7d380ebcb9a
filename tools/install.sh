#!/bin/sh
# Installs this checkout with EXTRAS into the environment of PYTHON, at the versions pinned for that Python.
# usage: tools/install.sh PYTHON EXTRAS
set -eu
pins=tools/requirements/$("$1" -c 'import sys; print("py%d%d.txt" % sys.version_info[:2])')
"$1" -m pip install --quiet --disable-pip-version-check --constraint "$pins" --editable ".[$2]"
