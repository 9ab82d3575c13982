"""Rules, viewers, and the dimensions that both are written in. No I/O."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.catalog.countries import COUNTRIES
from tally.contract.errors import Violation

MAX_RULES = 1_000
CODE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}", re.ASCII)
WHAT_A_CODE_IS = "must be 1 to 32 of a-z, 0-9, _ and -, and not begin with _ or -"
# GeoIP also has T1, XX and XK.
_COUNTRY = re.compile(r"[A-Z][A-Z0-9]", re.ASCII)


@dataclass(frozen=True, slots=True)
class Dimensions:
    """The codes that are registered."""

    applications: frozenset[str] = frozenset()
    platforms: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Viewer:
    """The viewer of a find; well formed, possibly with unregistered codes."""

    country: str
    """upper case"""
    application: str
    platform: str

    def check(self) -> list[Violation]:
        """The malformed fields."""
        wrong = []
        if not _COUNTRY.fullmatch(self.country):
            wrong.append(Violation("viewer.country", "is required, and must be two letters: US"))
        for field, code in (("application", self.application), ("platform", self.platform)):
            if not CODE.fullmatch(code):
                wrong.append(Violation(f"viewer.{field}", f"is required, and {WHAT_A_CODE_IS}"))
        return wrong


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a subject. An empty set of codes stands for all of them; the window is [from_us, to_us)."""

    priority: int
    allow: bool
    countries: frozenset[str] = frozenset()
    applications: frozenset[str] = frozenset()
    platforms: frozenset[str] = frozenset()
    from_us: int | None = None
    to_us: int | None = None
    reason: str = ""

    def is_for(self, country: str, application: str, platform: str) -> bool:
        """Whether it is about a viewer with these codes, at any time."""
        return (
            (not self.countries or country in self.countries)
            and (not self.applications or application in self.applications)
            and (not self.platforms or platform in self.platforms)
        )

    def is_active(self, time_us: float) -> bool:
        """Whether its window contains the instant."""
        return (self.from_us is None or self.from_us <= time_us) and (
            self.to_us is None or time_us < self.to_us
        )


def check_rules(rules: Sequence[Rule], dimensions: Dimensions) -> list[Violation]:
    """The violations of the rules of a subject."""
    wrong: list[Violation] = []
    if len(rules) > MAX_RULES:
        wrong.append(Violation("rules", f"must be at most {MAX_RULES:,}, and are {len(rules):,}"))
    priorities: set[int] = set()
    for index, rule in enumerate(rules[:MAX_RULES]):
        field = f"rules[{index}]"
        wrong += _unknown(f"{field}.countries", rule.countries, COUNTRIES, "is no country of ISO 3166-1")
        wrong += _unknown(
            f"{field}.applications", rule.applications, dimensions.applications, "is not registered"
        )
        wrong += _unknown(f"{field}.platforms", rule.platforms, dimensions.platforms, "is not registered")
        if rule.from_us is not None and rule.to_us is not None and rule.from_us >= rule.to_us:
            wrong.append(Violation(f"{field}.to_time", "must be after from_time"))
        if rule.priority in priorities:
            wrong.append(
                Violation(f"{field}.priority", f"{rule.priority} is that of another rule of the subject")
            )
        priorities.add(rule.priority)
        if len(rule.reason) > 1_000 or "\0" in rule.reason:
            wrong.append(
                Violation(f"{field}.reason", "must have at most 1,000 characters, and no NUL among them")
            )
    return wrong


def _unknown(field: str, codes: Iterable[str], known: frozenset[str], what: str) -> list[Violation]:
    return [Violation(field, f"{code!r} {what}") for code in sorted(codes) if code not in known]
