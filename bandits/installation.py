"""Installation: our packages must be the ones that an import of their names finds."""

from functools import cache
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

from bandits.errors import ShadowedPackage

DISTRIBUTION = "email-bandits"
_FOLDER = Path(__file__).resolve().parents[1]


@cache
def refuse_strangers() -> None:
    """Refuse to run where another package is imported by the name of one of ours.

    The names are everyday words: another `policies`, earlier on the path, would be imported
    instead, and every policy of ours be unknown.

    Raises:
        ShadowedPackage: there is one.
    """
    for name in _packages():
        expected = _FOLDER / name / "__init__.py"
        spec = find_spec(name)
        if spec is None:
            continue  # which its import says best
        # A folder without __init__.py is a package too, and has no file.
        locations = spec.submodule_search_locations or [""]
        origin = Path(spec.origin or locations[0]).resolve()
        if expected.exists() and origin != expected:
            raise ShadowedPackage(name, str(origin), str(expected))


def _packages() -> list[str]:
    """List the packages that this distribution's commands and policies are in."""
    try:
        entries = distribution(DISTRIBUTION).entry_points
    except PackageNotFoundError:  # run without being installed: nothing is found by entry points
        return []
    return sorted({entry.module.partition(".")[0] for entry in entries})
