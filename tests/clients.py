"""Clients for other languages, made from the API's description: ``clients.py FOLDER``."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.patience import LIMIT_SECONDS
from webapp.api.openapi import openapi
from webapp.api.routes import every_operation

OPTIONS = Path(__file__).parents[1] / "docs/clients"
GENERATOR = Path(sys.executable).with_name("openapi-generator-cli")
# It runs once and ends, so that its code is not worth compiling well.
JAVA = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}


def main(folder: Path) -> None:
    """Make one client for each file of options, in a folder of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    document = (folder / "openapi.json").absolute()
    document.write_bytes(msgspec.json.encode(openapi(every_operation())))
    orders = []
    for options in sorted(OPTIONS.glob("*.yaml")):
        client = (folder / options.stem).absolute()
        shutil.rmtree(client, ignore_errors=True)
        orders.append(folder / options.name)
        places = {"inputSpec": document, "outputDir": client}
        lines = [f"{name}: '{place}'\n" for name, place in places.items()]
        orders[-1].write_text(options.read_text() + "".join(lines))
    made = subprocess.run(
        [GENERATOR, "batch", "--fail-fast", *orders],
        env=os.environ | JAVA,
        capture_output=True,
        text=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )
    if made.returncode:
        sys.exit(made.stdout + made.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
