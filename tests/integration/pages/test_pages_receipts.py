"""Finding out why somebody got an email, by who they are."""

from bandits.messages import Request


def test_every_email_of_a_recipient_is_found_and_leads_to_its_receipt(site, viewer):
    site.make()
    made = site.engine.choose("sale", [Request("ann@shop.example"), Request("bob")])
    made += site.engine.choose("sale", [Request("ann@shop.example")])
    page = viewer.post("/decisions", {"who": " ann@shop.example "}).text
    for decision, hers in zip(made, (True, False, True), strict=True):
        assert (f'href="/decisions/{decision.decision_id}"' in page) == hers
    assert viewer.get(f"/decisions/{made[0].decision_id}").status_code == 200


def test_of_a_stranger_and_of_who_was_erased_nothing_can_be_derived(site, viewer):
    site.make()
    (made,) = site.engine.choose("sale", [Request("ann")])
    site.engine.erase("ann", by="test")
    for who in ("ann", "<script>alert(1)</script>"):
        page = viewer.post("/decisions", {"who": who}).text
        assert "nothing can be derived any more" in page
        assert "<script>alert" not in page
    assert viewer.get(f"/decisions/{made.decision_id}").status_code == 404
