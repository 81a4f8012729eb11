"""The parts of addresses: what does not even look like a key or an id is not found."""

from werkzeug.routing import BaseConverter


class KeyConverter(BaseConverter):
    """The key of an experiment."""

    regex = r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}"


class DecisionIdConverter(BaseConverter):
    """The id of a decision; it may hold slashes, but two words are taken."""

    part_isolating = False
    regex = r"(?!(?:activate|cancel)\Z)[\x21-\x7e]{1,128}"


class SubjectIdConverter(BaseConverter):
    """The id of a subject, as its sender knows it; it may hold slashes."""

    part_isolating = False
    regex = r"(?s:.{1,256})"


CONVERTERS: dict[str, type[BaseConverter]] = {
    "key": KeyConverter,
    "decision_id": DecisionIdConverter,
    "subject_id": SubjectIdConverter,
}
