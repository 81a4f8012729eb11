"""Pages speak in short sentences; what stands under "How we know" may be longer."""

from tests.house.page_strings import MOST_WORDS, page_strings


def test_sentences_of_pages_are_short() -> None:
    strings = page_strings()
    assert len(strings) > 500
    assert [string for string in strings if string.n_words > MOST_WORDS] == []


def test_long_sentence_would_be_found() -> None:
    longest = page_strings()[0]
    assert longest.n_words > MOST_WORDS / 2
