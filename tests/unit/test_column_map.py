"""Column maps: what is remembered of each kind of file."""

import pytest

from webapp.jobs import column_map
from webapp.jobs.column_map import ColumnMapping, SavedMappings


def mapping(column: str, **chosen) -> ColumnMapping:
    needed = {"by_subject": True, "in_rows": False, "features": {}, "metrics": {}, "extra": {}}
    return ColumnMapping(id_column=column, **needed | chosen)


@pytest.fixture
def saved(tmp_path) -> SavedMappings:
    return SavedMappings(tmp_path)


def test_saved_mappings_are_found_by_kind_and_columns_in_any_order(saved):
    saved.save("recipients", ["who", "city"], mapping("who", anew=True))
    saved.save("results", ["who", "city"], mapping("city", zone="Europe/Berlin"))
    found = saved.find("recipients", ["city", "who"])
    assert found is not None
    assert (found.id_column, found.anew) == ("who", False), "a second send is said each time"
    assert saved.find("results", ["who", "city"]).id_column == "city"
    assert saved.find("recipients", ["who"]) is None
    assert saved.zone == "Europe/Berlin"


def test_saved_mappings_forget_the_one_used_longest_ago(saved, monkeypatch):
    monkeypatch.setattr(column_map, "_MOST_MAPPINGS", 2)
    for column in ("a", "b", "a", "c"):
        saved.save("results", [column], mapping(column))
    remembered = [c for c in "abc" if saved.find("results", [c])]
    assert remembered == ["a", "c"]


def test_saved_mappings_that_are_damaged_are_none(saved, tmp_path):
    saved.save("results", ["a"], mapping("a"))
    (file,) = tmp_path.iterdir()
    file.write_text("{")
    assert saved.find("results", ["a"]) is None
    saved.save("results", ["a"], mapping("a"))
    assert saved.find("results", ["a"]) is not None
