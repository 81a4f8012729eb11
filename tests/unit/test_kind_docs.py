"""Pages of the kinds of connections, made from their declarations."""

import pytest

from webapp.signals.kind_docs import INDEX, kind_page, main, pages
from webapp.signals.kind_registry import connection_kinds

KINDS = connection_kinds()
every_kind = pytest.mark.parametrize("name", sorted(KINDS))


@every_kind
def test_page_has_steps_fields_events_and_answers(name: str) -> None:
    kind = KINDS[name]
    text = kind_page(kind)
    assert f"https://YOUR-SERVER/webhooks/{name}/KEY" in text
    assert "{address}" not in text
    assert len(kind.steps) == 3
    assert all(step.endswith(".") for step in (*kind.steps, kind.purpose, kind.proof, kind.retries))
    for field in kind.fields:
        assert f"| `{field.name}` |" in text
    for sent_name in kind.names:
        assert f"| {sent_name} |" in text
    assert f"| database not available: send it again | {429 if name == 'brevo' else 503} |" in text
    assert "bandits_decision" in kind.passing
    assert f"```{kind.sample.language}\n{kind.sample.text}```" in text
    assert all(f"\n- {trap}\n" in text for trap in kind.traps)
    assert len(kind.traps) >= 3
    assert all(trap.endswith((".", ").")) for trap in kind.traps)


def test_index_lists_every_kind() -> None:
    made = pages(KINDS)
    assert set(made) == {INDEX, *(f"{name}.md" for name in KINDS)}
    for name, kind in KINDS.items():
        assert f"[{kind.label}]({name}.md)" in made[INDEX]


def test_pages_that_are_stale_fail_the_check(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="is stale"):
        main(["--check"])
    main([])
    main(["--check"])
    page = tmp_path / "docs/connections/sendgrid.md"
    page.write_text(page.read_text() + "more")
    with pytest.raises(SystemExit, match="is stale"):
        main(["--check"])
    (tmp_path / "docs/connections/pigeon.md").write_text("no kind")
    main([])
    main(["--check"])
    assert not (tmp_path / "docs/connections/pigeon.md").exists()
