"""Proposals of versions on pages: a person looks at them, approves or discards them."""

import pytest

from webapp.pages.form.proposal_drafts import ProposedVariant, propose_variant

HOSTILE = '"><script>q9()</script>'


@pytest.fixture
def proposal(site):
    site.make()
    return propose(site)


def propose(site, reason=HOSTILE):
    record = site.engine.store.experiments.record("sale")
    proposed = ProposedVariant("subject_line", "Question", {"text": "Which one?"}, reason)
    return propose_variant(record, site.store.drafts, proposed, at=site.clock(), by="API key Agent")


def test_manager_sees_a_proposal_on_the_campaign_page_and_viewers_do_not(
    site, proposal, manager, viewer
):
    page = manager.get("/experiments/sale").text
    assert "API key Agent proposed a version." in page
    assert f"/drafts/{proposal.stored.id}/parts" in page
    assert "proposed a version" not in viewer.get("/experiments/sale").text


def test_draft_of_a_proposal_says_what_it_is(site, proposal, manager):
    page = manager.get(f"/drafts/{proposal.stored.id}/parts").text
    assert "API key Agent proposed a version." in page
    assert "Nobody gets it before you save this edit." in page
    assert "Which one?" in page
    assert "<script>q9" not in page
    assert "&lt;script&gt;q9()" in page
    assert "proposed by API key Agent" in manager.get("/new-experiment").text


def test_edit_of_a_person_is_not_mixed_with_a_proposal(site, proposal, manager):
    answer = manager.post("/experiments/sale/steps")
    own = answer.location.split("/")[2]
    assert own != proposal.stored.id
    assert "Which one?" not in manager.get(f"/drafts/{own}/parts").text


def test_approved_proposal_is_an_edit_of_that_person(site, proposal, manager):
    address = f"/drafts/{proposal.stored.id}/start"
    page = manager.get(address).text
    assert "Approve this version" in page
    assert "Start the campaign" not in page
    fields = manager.form(address, "base") | {"do": "ready"}
    answer = manager.post(address, fields)
    assert answer.status_code == 302, answer.text
    record = site.engine.store.experiments.record("sale")
    slot = record.configuration.experiment.slots[0]
    assert [variant.payload.get("text") for variant in slot.variants][-1] == "Which one?"
    assert "the version takes part from now on" in manager.get("/experiments/sale").text
    change = next(iter(site.accounts.changes()))
    assert change.by == manager.email


def test_discarded_proposal_is_gone(site, proposal, manager):
    manager.post(f"/drafts/{proposal.stored.id}/discard")
    assert "proposed a version" not in manager.get("/experiments/sale").text
