"""The list of campaigns: searched, sorted, page by page; and new ones from what there is."""

import re

import pytest

from bandits.errors import NotFound


def listed(page):
    return re.findall(
        r'<th role="rowheader" scope="row"><a href="/experiments/([^"]+)">', page.text
    )


def test_campaign_list_is_shown_page_by_page_and_keeps_the_search(site, viewer):
    for i in range(30):
        site.make(key=f"sale-{i:02}", start=False)
    site.make(key="other", name="Other", start=False)
    first = viewer.get("/?q=sale&sort=name")
    assert len(listed(first)) == 25
    assert "Page 1 of 2, 30 campaigns" in first.text
    link = re.search(r'href="([^"]+)">Next', first.text)[1].replace("&amp;", "&")
    second = viewer.get(link)
    assert len(listed(second)) == 5
    assert not set(listed(first)) & set(listed(second))
    assert "other" not in [*listed(first), *listed(second)]
    assert listed(viewer.get("/?page=99&q=sale")) == listed(viewer.get("/?page=2&q=sale"))
    assert viewer.get("/?page=-1").status_code == viewer.get("/?page=x").status_code == 200


@pytest.mark.parametrize(
    ("sort", "first"),
    [("name", "b"), ("sent", "a"), ("state", "c"), ("started", "b"), ("nonsense", "c"), ("", "c")],
)
def test_campaign_list_is_sorted_as_asked(site, viewer, sort, first):
    site.make(key="a", name="Beta")
    site.send("a", 20)
    site.make(key="b", name="alpha")
    site.make(key="c", name="Gamma", start=False)
    page = viewer.get(f"/?sort={sort}")
    assert listed(page)[0] == first
    assert ("aria-sort" in page.text) == (sort not in {"nonsense", ""})


def test_a_gain_is_not_named_before_it_can_be_measured(site, viewer):
    site.make(key="new")
    site.make(key="sent")
    site.send("sent", 1)
    page = viewer.get("/").text
    assert page.count("not yet measurable") == 1


def test_a_copy_is_a_draft_of_its_own_without_what_was_learned(site, manager):
    site.make()
    site.send("sale", 20)
    assert manager.post("/experiments/sale/clone").location == "/experiments/sale-copy/setup"
    assert manager.post("/experiments/sale/clone").location == "/experiments/sale-copy-2/setup"
    old, new = (site.engine.store.experiments.record(k) for k in ("sale", "sale-copy"))
    assert new.state == "draft"
    assert new.learned_version == 0
    assert new.configuration.experiment.title == "Spring sale (copy)"
    assert new.configuration.experiment.slots == old.configuration.experiment.slots
    assert new.salt != old.salt
    assert site.accounts.changes(subject="experiment:sale-copy")[0].by == manager.email
    assert manager.post("/experiments/nothing/clone").status_code == 404


def test_a_key_as_long_as_may_be_is_copied_too(site, manager):
    site.make(key="k" * 64, name="n" * 100)
    assert manager.post(f"/experiments/{'k' * 64}/clone").status_code == 302


def test_an_empty_list_offers_the_sample_campaign(site, manager, viewer):
    assert "Look at a sample campaign" not in viewer.get("/").text
    assert "Look at a sample campaign" in manager.get("/").text
    with pytest.raises(NotFound):
        site.engine.store.experiments.record("spring-sale")
    assert manager.post("/sample").location == "/experiments/spring-sale/setup"
    assert site.engine.store.experiments.record("spring-sale").state == "draft"
