"""Print how well the names of the code and of its tests keep to the rules of the house.

``--list`` prints every offender below its measure, as ``path:line name``; words after it narrow
the table to the measures whose title holds one of them.

Migrations count like everything else: they have no class and none of the names below, so that
leaving them out would change nothing but the number of modules.
"""

import ast
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("bandits", "policies", "simulations", "storage", "webapp")


def words(text: str) -> frozenset[str]:
    """Take a text apart."""
    return frozenset(text.split())


# Words that end as a gerund or participle does and are nouns of their own.
NOUNS = {
    "everything": "a pronoun: names may be bad for that, but it is no form of a verb",
    "nothing": "as everything",
    "spring": "the season, in examples",
    "string": "a text",
    "thing": "no form of a verb",
}
# Participles without -ed. Those that are nouns or verbs as well (bound, cut, run, set, split) count
# as the noun.
IRREGULAR = words(
    "begun born bought broken brought built caught chosen done drawn driven fallen forbidden"
    " foreseen forgotten found given gone grown heard held hidden kept known laid learnt left lent"
    " lost made meant met overseen paid proven rebuilt said seen sent shown sold sought spent"
    " stolen taken taught thought thrown told unbound unheard unknown unseen unsent woken won"
    " written"
)
# Stems that several rooms may share, since each room has its own side of one subject.
PARALLEL = {
    "accounts": "who may sign in: its tables, and what reads and writes them",
    "api_keys": "keys of callers: stored, and handed out by the API",
    "audit_log": "who changed what: stored, and shown on a page",
    "charts": "charts: of a simulation's report, and of pages",
    "commands": "the commands of a package",
    "connections": "mailers and shops that report events: tables, store, API and pages",
    "decisions": "decisions: answered by the API, shown on a page",
    "drafts": "drafts of experiments: tables, store and pages",
    "experiments": "experiments: tables, store, API and pages",
    "fold": "the engine's fold, and the port through which it reads and writes",
    "group_commit": "calls done together: the queue, and the store's use of it",
    "health": "what is amiss: computed, answered by the API, shown on a page",
    "interfaces": "the protocols of a room of the simulator",
    "lifecycle": "the states of an experiment, and the buttons that change them",
    "log": "the log of decisions and events: tables and store",
    "logistic": "logistic regression: learned, and drawn from",
    "preview": "a decision tried out: computed by the engine, shown on a page",
    "results": "results: declared, and shown on a page",
    "retention": "removal of old decisions: decided by the engine, done by the store",
    "rewards": "rewards: declared, and reported through the API",
    "segments": "segments: declared, and shown on a page",
    "sessions": "sessions of people: tables, store and pages",
    "set_aside": "events that do not count: computed by the engine, shown on a page",
    "settings": "the settings of a package",
    "snapshots": "snapshots: tables and store",
    "store": "the port, and the store behind it",
    "subjects": "subjects: read and erased by engine, store and API",
    "summary": "results in short: of an experiment, and of a simulation",
    "tracked_links": "links of emails: tables, store, API and pages",
    "uploads": "uploaded files: kept, and shown on a page",
    "users": "people who sign in: store and pages",
    "voids": "what actors did and is void: engine, store, API and pages",
}
# What API documents say, by class and field: such a name is a user's and stays.
API_FIELDS = {"Drift.found": "in the results of an experiment"}
# Parameters that callers outside this repository write by name.
API_PARAMETERS: dict[str, str] = {}

RELATIVES = words("what whatever when where whether which whichever who whoever whom whose")
TELLING = words("say said saying says tell telling tells told")
ROUNDABOUT = words(  # other openings that put the subject off
    "anybody anything everybody everything how it its nobody nothing somebody something their them"
    " there these they this those why"
)
EMPTY = words("asked each found given known made mine some told wanted")
PRONOUNS = RELATIVES | words(
    "anybody anything everybody everything he her him his how it its nobody none nothing one ones"
    " she somebody something that their them these they this those us we why you"
)
# Determiners are pronouns where a verb or a relative clause follows.
DETERMINER_ALONE = re.compile(
    "(all|another|any|both|each|either|few|many|most|neither|others?|several|some)_"
    "(are|can|has|have|is|may|of|that|was|were|which|who)(_|$)"
)
LEADING = words(  # words that begin a clause before the unit is named
    "after alone as at before but by for from if in of on once only since so there though to too"
    " under until unless while with without"
)


class Use(NamedTuple):
    """A name, and where it stands."""

    path: Path
    line: int
    name: str

    def __str__(self) -> str:
        """Write it as editors follow it."""
        return f"{self.path.relative_to(ROOT).as_posix()}:{self.line} {self.name}"


class Measure(NamedTuple):
    """A count of offenders, and how many there may be.

    Attributes:
        title: what is counted.
        offenders: every use that counts.
        limit: how many may be, as a share of `total` if there is one; None where it is only told.
        total: of how many they are.
        groups: how many there are where several uses are one offence.
    """

    title: str
    offenders: list[Use]
    limit: float | None = None
    total: int = 0
    groups: int | None = None

    @property
    def size(self) -> int:
        """Number of offences."""
        return len(self.offenders) if self.groups is None else self.groups

    @property
    def value(self) -> float:
        """Number or share that the limit is for."""
        return self.size / self.total if self.total else self.size

    @property
    def kept(self) -> bool:
        """True where there is no limit, or it is kept."""
        return self.limit is None or self.value <= self.limit

    def row(self) -> tuple[str, str, str]:
        """Write it as a line of the table."""
        share = f" of {self.total:,} = {self.value:.1%}" if self.total else ""
        limit = "" if self.limit is None else f"{self.limit:.0%}" if self.total else f"{self.limit}"
        return self.title, f"{self.size:,}{share}", limit


@cache
def trees(*rooms: str) -> Mapping[Path, ast.Module]:
    """Parse every file in some folders."""
    paths = [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    return {path: ast.parse(path.read_text()) for path in paths}


def nodes() -> Iterator[tuple[Path, ast.AST]]:
    """Go through all code of the packages."""
    for path, tree in trees(*PACKAGES).items():
        for node in ast.walk(tree):
            yield path, node


def modules() -> list[Use]:
    """List the modules by their stem; a package's own file is named by its folder."""
    return [Use(p, 1, p.stem) for p in trees(*PACKAGES) if p.name != "__init__.py"]


def classes() -> list[Use]:
    """List the classes, private ones too."""
    return [Use(p, n.lineno, n.name) for p, n in nodes() if isinstance(n, ast.ClassDef)]


def is_gerund(word: str) -> bool:
    """Recognise a gerund by its ending."""
    return word.endswith("ing") and word not in NOUNS


def is_participle(name: str) -> bool:
    """Recognise a class that is named by a verb's gerund or participle alone."""
    if not re.fullmatch("_*[A-Z][a-z]+", name):
        return False
    word = name.strip("_").lower()
    return is_gerund(word) or (word.endswith("ed") and word not in NOUNS) or word in IRREGULAR


def gerund_modules() -> Measure:
    """Count modules named by a gerund, also as the last of several words."""
    every = modules()
    return Measure(
        "modules named by a gerund", [m for m in every if is_gerund(m.name)], 0.02, len(every)
    )


def gerund_packages() -> Measure:
    """Count folders named by a gerund."""
    every = [Use(p, 1, p.parent.name) for p in trees(*PACKAGES) if p.name == "__init__.py"]
    offenders = [f for f in every if is_gerund(f.name)]
    return Measure("  (folders named by a gerund)", offenders, total=len(every))


def participle_classes() -> Measure:
    """Count classes that are a bare participle or gerund, errors too."""
    every = classes()
    offenders = [c for c in every if is_participle(c.name)]
    return Measure("classes that are a bare participle", offenders, 0.01, len(every))


def one_word_classes() -> Measure:
    """Count class names of one word."""
    every = {c.name: c for c in classes()}
    offenders = [c for c in every.values() if re.fullmatch("_*[A-Z][a-z]+", c.name)]
    return Measure("  (class names of one word)", offenders, total=len(every))


def repeated(uses: Iterable[Use], key: Callable[[str], str] = str) -> tuple[list[Use], int]:
    """List the uses whose key is another's too, and count such keys."""
    by_key: dict[str, list[Use]] = defaultdict(list)
    for use in uses:
        by_key[key(use.name)].append(use)
    several = {name: group for name, group in by_key.items() if len(group) > 1}
    return [use for name in sorted(several) for use in several[name]], len(several)


def repeated_classes() -> Measure:
    """Count class names that stand for two things or more, in whichever packages."""
    offenders, names = repeated(classes())
    return Measure("class names used twice", offenders, 0, groups=names)


def almost_repeated_classes() -> Measure:
    """Count those that a leading underscore alone tells apart as well."""
    offenders, names = repeated(classes(), lambda name: name.lstrip("_"))
    return Measure("  (class names used twice, but for _)", offenders, groups=names)


def repeated_modules() -> Measure:
    """Count stems of modules that rooms share which have no subject in common."""
    offenders, stems = repeated(m for m in modules() if m.name not in PARALLEL)
    return Measure("module names used twice, not parallel", offenders, 0, groups=stems)


def parallel_modules() -> Measure:
    """Count stems of modules that parallel rooms share."""
    offenders, stems = repeated(m for m in modules() if m.name in PARALLEL)
    return Measure("  (module names used in parallel rooms)", offenders, groups=stems)


@cache
def openings() -> list[tuple[Use, str]]:
    """List docstrings with their first word."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    listed = []
    for path, node in nodes():
        if isinstance(node, documented) and (text := ast.get_docstring(node)):
            first = re.search(r"\w+", text)
            line = node.body[0].lineno
            word = first[0].lower() if first else ""
            listed.append((Use(path, line, text.splitlines()[0]), word))
    return listed


def headless_docstrings() -> Measure:
    """Count docstrings that begin with a relative, or with telling."""
    offenders = [use for use, word in openings() if word in RELATIVES | TELLING]
    title = "docstrings: What, Whether, Who, Tell …"
    return Measure(title, offenders, 0.02, len(openings()))


def roundabout_docstrings() -> Measure:
    """Count docstrings that begin with How, or with a pronoun."""
    offenders = [use for use, word in openings() if word in ROUNDABOUT]
    return Measure("  (docstrings: How, Everything, It …)", offenders, total=len(openings()))


def fields() -> dict[int, str]:
    """Find the names that classes declare, by the identity of their node."""
    declared = {}
    for _, node in nodes():
        if isinstance(node, ast.ClassDef):
            for statement in node.body:
                if isinstance(statement, ast.Assign | ast.AnnAssign):
                    names = [n for n in ast.walk(statement) if isinstance(n, ast.Name)]
                    declared.update({id(n): f"{node.name}.{n.id}" for n in names})
    return declared


def bound() -> Iterator[tuple[Path, Any, str]]:
    """Go through the names that code binds: =, for, with, :=, except, match and imports."""
    for path, node in nodes():
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield path, node, name
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)):
                yield path, node, name
            case ast.MatchStar(name=str(name)) | ast.MatchMapping(rest=str(name)):
                yield path, node, name
            case ast.alias(asname=str(name)):
                yield path, node, name


def empty_locals() -> Measure:
    """Count bindings of names that tell how a value was come by, not what it is."""
    declared = fields()
    offenders = [
        Use(path, node.lineno, name)
        for path, node, name in bound()
        if name in EMPTY and id(node) not in declared
    ]
    return Measure("locals: found, known, told …", offenders, 0)


def empty_fields() -> Measure:
    """Count fields of classes of such a name, but for those of the API."""
    declared = fields()
    offenders = [
        Use(path, node.lineno, declared[id(node)])
        for path, node, name in bound()
        if name in EMPTY and id(node) in declared and declared[id(node)] not in API_FIELDS
    ]
    return Measure("fields: found, known, told …", offenders, 0)


def empty_parameters() -> Measure:
    """Count parameters of such a name, but for public keywords."""
    offenders = [
        Use(path, node.lineno, node.arg)
        for path, node in nodes()
        if isinstance(node, ast.arg) and node.arg in EMPTY and node.arg not in API_PARAMETERS
    ]
    return Measure("parameters: found, known, told …", offenders, 0)


def empty_functions() -> Measure:
    """Count functions, methods and attributes of such a name, also where it is private."""
    offenders = []
    for path, node in nodes():
        match node:
            case ast.FunctionDef(name=name) if name.strip("_") in EMPTY:
                offenders.append(Use(path, node.lineno, name))
            case ast.Attribute(attr=name, ctx=ast.Store()) if name.strip("_") in EMPTY:
                offenders.append(Use(path, node.lineno, name))
    return Measure("  (functions and attributes of them)", offenders)


@cache
def tests() -> list[Use]:
    """List the tests."""
    return [
        Use(path, node.lineno, node.name)
        for path, tree in trees("tests").items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]


def begins_with_a_pronoun(name: str) -> bool:
    """Recognise a test whose name does not begin with its unit, but with a pronoun."""
    sentence = name.removeprefix("test_")
    return sentence.split("_")[0] in PRONOUNS or DETERMINER_ALONE.match(sentence) is not None


def tests_of_nothing() -> Measure:
    """Count tests whose names begin with a pronoun or a free relative."""
    offenders = [t for t in tests() if begins_with_a_pronoun(t.name)]
    return Measure("tests: what, it, one, who, nothing …", offenders, 0)


def tests_with_a_lead() -> Measure:
    """Count tests whose names begin with a clause before the unit."""
    offenders = [t for t in tests() if t.name.split("_")[1] in LEADING]
    return Measure("  (tests: once, only, without, while …)", offenders, total=len(tests()))


MEASURES: tuple[Callable[[], Measure], ...] = (
    gerund_modules,
    gerund_packages,
    participle_classes,
    one_word_classes,
    repeated_classes,
    almost_repeated_classes,
    repeated_modules,
    parallel_modules,
    headless_docstrings,
    roundabout_docstrings,
    empty_locals,
    empty_fields,
    empty_parameters,
    empty_functions,
    tests_of_nothing,
    tests_with_a_lead,
)


def page(titles: Sequence[str], *, listed: bool) -> str:
    """Write the table; those in brackets have no limit."""
    lines = [f"{'measure':40} {'today':>22} {'limit':>6}"]
    for measured in MEASURES:
        measure = measured()
        if titles and not any(title in measure.title for title in titles):
            continue
        title, today, limit = measure.row()
        lines.append(f"{title:40} {today:>22} {limit:>6}{'' if measure.kept else '  over'}")
        if listed:
            if measure.groups is None:
                counts = Counter(use.name.rpartition(".")[2] for use in measure.offenders)
                several = [f"{n} {c}" for n, c in counts.most_common(12) if c > 1]
                lines += [f"    {', '.join(several)}"] if several else []
            lines += [f"    {use}" for use in measure.offenders]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    typed = sys.argv[1:]
    sys.stdout.write(page([t for t in typed if t != "--list"], listed="--list" in typed))
