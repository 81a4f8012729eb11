"""Engine: the use cases of experiments, decisions, rewards and results."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from msgspec.structs import replace

from bandits import lifecycle
from bandits.actors import PROGRAM, Actor
from bandits.engine import subject_data, voids
from bandits.engine.active_policy import ActivePolicy, ActivePolicyCache
from bandits.engine.analysis.guardrail_report import guardrail_report
from bandits.engine.analysis.health import check_senders, count_excluded_bounces
from bandits.engine.analysis.preview import Preview, preview_choice
from bandits.engine.analysis.receipts import explain_decision, label
from bandits.engine.analysis.recipient_explanation import (
    RecipientExplanation,
    explain_to_recipient,
)
from bandits.engine.analysis.set_aside import describe_set_aside
from bandits.engine.analysis.summary import summarise
from bandits.engine.arm_counts import ArmCounts
from bandits.engine.attribution import match_subjects
from bandits.engine.choose import ChooseHandler, eligible_set_counts
from bandits.engine.fold import fold, rebuild
from bandits.engine.guardrail_watch import GuardrailWatch
from bandits.engine.receipt_sample import most_receipts, sampled_share
from bandits.engine.record_rewards import RewardHandler
from bandits.engine.record_signals import (
    Keep,
    SettledEvents,
    SignalHandler,
    SignalOutcome,
)
from bandits.engine.rescore import rescore
from bandits.engine.retention import (
    DEFAULT_SNAPSHOT_BYTES,
    EVERY_SECONDS,
    WAITING_SECONDS,
    ThinningPlan,
    plan_thinning,
    remove_old,
)
from bandits.engine.statement_recorder import StatementRecorder
from bandits.engine.sum_anew import resummed_part, sum_anew
from bandits.engine.sums import load_inference_state
from bandits.engine.withdraw import withdraw
from bandits.errors import NotDerivable, NotFound, Unavailable
from bandits.experiment import DAY, Combination, Experiment
from bandits.features import Scalar
from bandits.machines import EventTrace
from bandits.results import Results, SetAside
from bandits.schemas import (
    Decision,
    DecisionReceipt,
    DerivationSource,
    ErasureReceipt,
    PartialDecisions,
    Request,
    Reward,
    RewardReceipt,
    SubjectDecisions,
    VoidEntry,
    VoidReceipt,
    Withdrawal,
    WithdrawalReceipt,
)
from bandits.store import Store
from bandits.store.values import (
    ActorCounts,
    Deeds,
    ExperimentRecord,
    MarkResult,
    Snapshot,
    StoredDecision,
)
from bandits.versions import Configuration

_log = logging.getLogger(__name__)
_HISTORY_POINTS = 120
_PRUNED_AT_ONCE = 100  # snapshots in a transaction, each of up to tens of megabytes
_RECEIPTS_AT_ONCE = 2_000
_GONE = "it was never made, or erased, or removed after its experiment's retention_days"
_SALT_BYTES = 16

Clock = Callable[[], float]
Entropy = Callable[[int], bytes]


class Engine:
    """The use cases, on a store and a clock; HTTP and SQL are elsewhere.

    Methods may raise `Unavailable` where the store cannot record; then nothing was stored.
    """

    def __init__(
        self, store: Store, clock: Clock = time.time, entropy: Entropy = os.urandom
    ) -> None:
        """Work on `store`.

        Args:
            store: keeps experiments, decisions and rewards.
            clock: gives seconds since 1970.
            entropy: gives n bytes that nobody can guess, for the salts that draws depend on.
        """
        self.store = store
        self.clock = clock
        self._entropy = entropy
        self._policies = ActivePolicyCache(store, lambda audit: rebuild(audit).statistic)
        self._choose_handler = ChooseHandler(store, self._policies, clock)
        self._reward_handler = RewardHandler(store, clock)
        self._signal_handler = SignalHandler(store, clock)
        self._statements = StatementRecorder(store, self._policies)
        self._guardrails = GuardrailWatch(store)
        self._results: dict[str, tuple[tuple[Any, ...], Results]] = {}

    # Experiments

    def create(self, experiment: Experiment, *, by: str) -> ExperimentRecord:
        """Add an experiment as a draft.

        Raises:
            InvalidInput: it is inconsistent.
            AlreadyExists: its key is taken.
        """
        configuration = Configuration.first(experiment)
        return self.store.experiments.create(
            configuration, salt=self._entropy(_SALT_BYTES), at=self.clock(), by=by
        )

    def edit(self, key: str, experiment: Experiment, *, version: int, by: str) -> ExperimentRecord:
        """Replace an experiment's declaration, made from configuration `version`.

        Raises:
            NotFound: there is none of this key.
            StaleEdit: it was changed since that version.
            InvalidInput: it is inconsistent, or renames the key.
            FixedOnceStarted: it has started, and this may not change any more.
            WrongState: it is stopped or archived, or was started while a draft was edited.
        """
        return lifecycle.edit_experiment(
            self.store, key, experiment, version=version, at=self.clock(), by=by
        )

    def start(self, key: str, *, by: str) -> ExperimentRecord:
        """Start a draft, or resume a paused experiment.

        Raises:
            NotFound: there is none of this key.
            WrongState: it is in another state, or its end has passed.
        """
        return lifecycle.start_experiment(self.store, key, at=self.clock(), by=by)

    def pause(self, key: str, *, by: str) -> ExperimentRecord:
        """Stop choosing for a while; rewards are still learned."""
        return lifecycle.pause_experiment(self.store, key, at=self.clock(), by=by)

    def stop(
        self,
        key: str,
        *,
        by: str,
        ship: Combination | None = None,
        keep_control_group: bool = False,
    ) -> ExperimentRecord:
        """Stop choosing for good; rewards under way are learned until `ExperimentRecord.closes_at`.

        Args:
            key: the experiment.
            by: the user, for the audit log.
            ship: the combination that all subjects get from now on; else requests are refused.
            keep_control_group: the held-out subjects go on getting the control instead.

        Raises:
            NotFound: there is none of this key.
            InvalidInput: at ``/ship/...``: it names no arm that can be sent; at
                ``/keep_control_group``: nothing is shipped, or there is no control group.
            WrongState: it is neither running nor paused.
        """
        return lifecycle.stop_experiment(
            self.store,
            key,
            ship,
            keep_control_group=keep_control_group,
            at=self.clock(),
            by=by,
        )

    def archive(self, key: str, *, by: str) -> ExperimentRecord:
        """Put a draft or a stopped experiment out of sight."""
        return lifecycle.archive_experiment(self.store, key, at=self.clock(), by=by)

    def undo_guardrail(self, key: str, number: int, *, by: str) -> ExperimentRecord:
        """Take an act of a guardrail back: what it paused is sent again.

        That guardrail then counts emails of it that are chosen from now on.

        Args:
            key: the experiment.
            number: of the act, from 0 for the oldest.
            by: the user, for the audit log.

        Raises:
            NotFound: there is no such experiment or act, or it was undone before.
            StaleEdit: the experiment was changed at the same moment.
            WrongState: it is neither running nor paused.
        """
        return self._guardrails.undo(key, number, at=self.clock(), by=by)

    def keep_to_schedule(self, record: ExperimentRecord) -> ExperimentRecord:
        """Start or stop an experiment whose time has come, once however many threads try."""
        return lifecycle.keep_to_schedule(self.store, record, at=self.clock())

    # Decisions

    def choose(
        self,
        key: str,
        requests: Sequence[Request],
        *,
        actor: Actor = PROGRAM,
        dry_run: bool = False,
    ) -> list[Decision]:
        """Decide for each request, and commit the decisions before answering.

        Args:
            key: the experiment.
            requests: at most 10,000.
            actor: who asks, for the log.
            dry_run: decide without recording; the answers have no decision id.

        Raises:
            NotFound: there is no such experiment.
            WrongState: it is neither running, nor stopped and still sending an arm.
            InvalidInput: at ``/requests/{row}/...``; nothing was recorded.
            IdReused: a decision id came before with another body; nothing was recorded.
        """
        return self._choose_handler.choose(key, requests, actor=actor, dry_run=dry_run)

    def choose_partial(
        self, key: str, requests: Sequence[Request], *, actor: Actor = PROGRAM
    ) -> PartialDecisions:
        """Decide for each request that nothing of others stands against.

        A row is refused by itself where its decision id came before with another body, which may
        have been another actor's, or where its restriction is one more than the actor may
        introduce. The other rows are committed together before answering.

        Args:
            key: the experiment.
            requests: at most 10,000.
            actor: who asks, for the log.

        Raises:
            NotFound: there is no such experiment.
            WrongState: it is neither running, nor stopped and still sending an arm.
            InvalidInput: at ``/requests/{row}/...``; nothing was recorded.
        """
        return self._choose_handler.choose_partial(key, requests, actor=actor)

    def held_out(self, key: str, subjects: Sequence[str]) -> list[bool]:
        """Return True for each of n subjects who is in an experiment's control group.

        Raises:
            NotFound: there is no such experiment.
        """
        record = self.store.experiments.record(key)
        held_out: list[bool] = self._policies.newest(record).held_out(subjects).tolist()
        return held_out

    def preview(self, key: str, context: Mapping[str, Scalar]) -> Preview:
        """Compute what a subject with this context would get; nothing is recorded.

        Raises:
            NotFound: there is no such experiment.
            InvalidInput: the context does not fit, and the experiment is strict about that.
        """
        policy = self._policies.newest(self.store.experiments.record(key))
        return preview_choice(policy, context, self.clock())

    def activate(
        self,
        ids: Sequence[str],
        *,
        messages: Sequence[tuple[str, str]] = (),
        actor: Actor = PROGRAM,
        own_only: bool = False,
    ) -> MarkResult:
        """Start the clocks of decisions that waited to be sent.

        Args:
            ids: of decisions.
            messages: ids of decisions among these, and the mailer's id of the email of each, by
                which its events find their decisions. Kept of decisions too that did not wait.
            actor: who reports it, for the log.
            own_only: refuse decisions that another actor asked for, each by itself.
        """
        marks = self.store.log.activate(
            _distinct(ids), messages=messages, actor=actor, own_only=own_only, at=self.clock()
        )
        return _in_rows_of_call(marks, ids)

    def check_sender(
        self, ids: Sequence[str], *, actor: Actor = PROGRAM, own_only: bool = False
    ) -> MarkResult:
        """Say which decisions an actor may act for, as `activate` would, and change nothing.

        The arguments are those of `activate`.
        """
        marks = self.store.log.check_sender(_distinct(ids), actor=actor, own_only=own_only)
        return _in_rows_of_call(marks, ids)

    def cancel(
        self, ids: Sequence[str], *, actor: Actor = PROGRAM, own_only: bool = False
    ) -> MarkResult:
        """Cancel decisions that were never sent, also when already learned.

        Those whose clocks have run for longer than `Experiment.send_within_seconds` are refused,
        each by itself. The arguments are those of `activate`.
        """
        marks = self.store.log.cancel(
            _distinct(ids), actor=actor, own_only=own_only, at=self.clock()
        )
        return _in_rows_of_call(marks, ids)

    def receipt(self, decision_id: str) -> DecisionReceipt:
        """Explain one decision, deriving it again from its snapshot.

        Raises:
            NotFound: there is no such decision, or none any more.
        """
        stored = self.store.log.decisions([decision_id]).get(decision_id)
        if stored is None:
            raise NotFound("decision", decision_id, _GONE)
        record = self.store.experiments.record(stored.experiment)
        configuration = self.store.experiments.configuration(
            record.key, stored.configuration_version
        )
        policy: ActivePolicy | str
        source: DerivationSource | None = None
        try:
            policy, source = self._policies.past(
                record,
                configuration,
                stored.policy_version,
                stored.eligible_set,
                decision_id,
            )
        except NotDerivable as error:
            policy = str(error)
        events = self.store.log.events(decision_id)
        void = None if stored.void is None else voids.entry_of(self.store.voids.record(stored.void))
        receipt = explain_decision(stored, configuration, policy, events, void, source=source)
        contextual = configuration.policy.statistic.contextual
        if receipt.derived and contextual and stored.policy_version > 0:
            self._keep_receipt(stored, configuration, receipt)
        return receipt

    def explain_to_recipient(self, decision_id: str) -> RecipientExplanation:
        """Explain one decision to the recipient of its email, from its row alone.

        Raises:
            NotFound: there is no such decision, or none any more.
        """
        stored = self.store.log.decisions([decision_id]).get(decision_id)
        if stored is None:
            raise NotFound("decision", decision_id, _GONE)
        configuration = self.store.experiments.configuration(
            stored.experiment, stored.configuration_version
        )
        return explain_to_recipient(stored, configuration, self.store.log.events(decision_id))

    def has_opted_out(self, decision_id: str) -> bool:
        """Return True where the recipient of an email opted out of the use of personal data.

        Raises:
            NotFound: there is no such decision, or none any more.
        """
        return self.store.subjects.has_opted_out(decision_id)

    def set_opt_out(self, decision_id: str, *, opted_out: bool) -> None:
        """Let the recipient of an email opt out of the use of personal data, or take that back.

        From then on every request for this subject is chosen for as with `personalize` false, in
        any experiment; other processes take it up within a second. It holds until it is taken back
        or the subject is erased.

        Raises:
            NotFound: there is no such decision, or none any more.
        """
        self.store.subjects.set_opt_out(decision_id, opted_out=opted_out, at=self.clock())

    def _keep_receipt(
        self, stored: StoredDecision, configuration: Configuration, receipt: DecisionReceipt
    ) -> None:
        """Keep what a receipt shows, so that it is the same once its snapshot is gone."""
        kept = self.store.snapshots.receipt_allocation(stored.id)
        if kept is not None and kept.requested:
            return
        by_arm = receipt.propensities or {}
        row = [by_arm.get(label(configuration, a), 0.0) for a in range(len(configuration.arms))]
        try:
            self.store.snapshots.keep_receipt(
                stored.experiment, stored.id, np.array(row), at=self.clock()
            )
        except Unavailable:  # the answer is the same; who asks again gives another chance
            _log.debug("what a receipt shows could not be kept", exc_info=True)

    # Rewards

    def reward(
        self,
        rewards: Sequence[Reward],
        *,
        actor: Actor = PROGRAM,
        partial: bool = False,
        traces: Sequence[EventTrace | None] | None = None,
        wait: bool = False,
    ) -> RewardReceipt:
        """Record rewards of decisions; doubled, late, early and unknown ones are normal.

        Args:
            rewards: at most 10,000.
            actor: who reports them, for the log.
            partial: record the others where some are refused, and list these in the receipt.
            traces: of the requests behind them, where these were reduced before; not `partial`.
            wait: keep those whose decision does not exist or waits for its activation, for a day;
                `settle_waiting` has to be called then.

        Raises:
            InvalidInput: at ``/rewards/{row}/...``: an unknown metric, a value out of range, a
                subject without a time, and not `partial`; nothing was recorded.
            IdReused: an event id came before with another metric, value or subject, and not
                `partial`;
                nothing was recorded.
        """
        if partial:
            return self._reward_handler.record_partial(rewards, actor=actor, wait=wait)
        return self._reward_handler.record(rewards, actor=actor, traces=traces, wait=wait)

    def try_rewards(
        self,
        rewards: Sequence[Reward],
        *,
        actor: Actor = PROGRAM,
        partial: bool = False,
        wait: bool = False,
    ) -> RewardReceipt:
        """Check rewards as `reward` does, and record nothing.

        Those of decisions that do not exist, such as those of a dry run, are `unknown`; none is
        `repeated`.
        """
        return self._reward_handler.try_rewards(rewards, actor=actor, partial=partial, wait=wait)

    def withdraw(
        self,
        rows: Sequence[Withdrawal],
        *,
        actor: Actor = PROGRAM,
        own_only: bool = False,
        partial: bool = False,
    ) -> WithdrawalReceipt:
        """Take events back: what is learned and all results are as if they had never been reported.

        They stay in the log. An event that is withdrawn before it is reported never counts.

        Args:
            rows: at most 10,000.
            actor: who withdraws them, for the log.
            own_only: refuse what another actor has reported.
            partial: withdraw the others where some are refused, and list these in the receipt.

        Raises:
            InvalidInput: at ``/withdrawals/{row}/...``: another actor reported it, or its
                experiment's result is final, and not `partial`; nothing was withdrawn.
        """
        return withdraw(
            self.store, rows, self.clock, actor=actor, own_only=own_only, partial=partial
        )

    def settle_waiting(self, *, limit: int = 1000) -> SettledEvents:
        """Record events that waited, and whose decisions' clocks run by now; some of them.

        An event counts as of the start of that clock where it happened before. Those whose decision
        was cancelled meanwhile are counted as such, and wait no longer.
        """
        return self._signal_handler.settle(limit=limit)

    def record_signals(
        self,
        signals: Sequence[Reward],
        *,
        actor: Actor,
        traces: Sequence[EventTrace | None] = (),
        keep: Keep | None = None,
    ) -> SignalOutcome:
        """Record events that a sender reports by itself, each for itself, in one transaction.

        Args:
            signals: any number of them, by decision or by subject, with well-formed ids.
            actor: who reports them, for the log.
            traces: of the requests behind them; of none unless given.
            keep: keeps what becomes of them, in the same transaction.
        """
        return self._signal_handler.record(signals, actor=actor, traces=traces, keep=keep)

    def match_subjects(
        self, key: str, subjects: Sequence[str], times: Sequence[float | None]
    ) -> list[str | None]:
        """Find the decision of an experiment that each event of a subject is of, None without any.

        That is the newest one at or before the event whose reward window was open; of an event
        whose time is not known, the newest one. Nothing is recorded.

        Args:
            key: the experiment.
            subjects: n.
            times: n, seconds since 1970, None where not known.

        Raises:
            NotFound: there is no such experiment.
        """
        return match_subjects(self.store, key, subjects, times, self.clock())

    def index_subjects(self, *, between: Callable[[], object] = lambda: None) -> None:
        """Index new decisions by subject, of experiments that are found so.

        Nobody has to: what is not indexed yet is found more slowly.

        Args:
            between: called between transactions, to let others write.
        """
        for record in self.store.experiments.found_by_subject():
            while self.store.log.index_subjects(record.key):
                between()

    # Subjects

    def subject(
        self, subject_id: str, *, after: int = 0, limit: int = 1000, any_spelling: bool = False
    ) -> SubjectDecisions:
        """Read all that is stored of a subject in every experiment, page by page.

        With `any_spelling`, also of subjects whose ids attribution takes for the same.
        """
        return subject_data.read_subject(
            self.store, subject_id, after=after, limit=limit, any_spelling=any_spelling
        )

    def erase(self, subject_id: str, *, by: str, any_spelling: bool = False) -> ErasureReceipt:
        """Erase a subject: no row is left, and every sum is as if it had never been.

        With `any_spelling`, also subjects whose ids attribution takes for the same.
        """
        now = self.clock()
        return subject_data.erase_subject(
            self.store, subject_id, now=now, by=by, any_spelling=any_spelling
        )

    # Voids

    def actors(self, key: str) -> list[ActorCounts]:
        """Count the rows that each actor wrote to the log of an experiment, by actor.

        Raises:
            NotFound: there is no such experiment.
        """
        return self.store.voids.actors(key)

    def void(
        self, deeds: Deeds, *, by: str, experiment: str | None = None, dry_run: bool = False
    ) -> VoidReceipt:
        """Take what an actor did between two times out of learning and results.

        The sums are then as if these rows had never been in the log, and subjects that decide once
        are free again. The log itself stays, so that `restore` puts all of it back.

        Args:
            deeds: whose, from when until when.
            by: the user, for the audit log.
            experiment: its key; every experiment unless given.
            dry_run: only count what would leave.

        Raises:
            NotFound: there is no such experiment.
            InvalidInput: at ``/until``: it is not after `since`, or in the future; at ``/actor``:
                it did nothing then.
            WrongState: the experiment's result is final, or rows from then were removed for their
                age; of every experiment, such are passed over and named.
        """
        now = self.clock()
        return voids.void(self.store, deeds, experiment, now=now, by=by, dry_run=dry_run)

    def restore(self, number: int, *, by: str) -> VoidEntry:
        """Put back what a void took out.

        A subject that decides once, and has got another decision since, keeps that: the earlier
        one is cancelled.

        Raises:
            NotFound: there is no such void.
            WrongState: it was restored before, its experiment's result is final, or rows from then
                were removed for their age.
        """
        return voids.restore(self.store, number, now=self.clock(), by=by)

    def voids(self, key: str | None = None) -> list[VoidEntry]:
        """List every void, the newest first, of one experiment if given.

        Raises:
            NotFound: there is no such experiment.
        """
        return [voids.entry_of(record) for record in self.store.voids.records(key)]

    # Learning and results

    def learn(self, key: str, *, between: Callable[[], object] = lambda: None) -> Snapshot | None:
        """Fold what is due, exactly once, and do what guardrails say; None where nothing changed.

        Args:
            key: the experiment.
            between: called between the folds that a long backlog takes, to let others write.
        """
        record = self._statements.record
        snapshot = fold(self.store, key, now=self.clock(), between=between, conclude=record)
        if snapshot is not None:
            self._guardrails.act(key, snapshot)
        return snapshot

    def prune(
        self,
        key: str,
        *,
        between: Callable[[], object] = lambda: None,
        most_bytes: int = DEFAULT_SNAPSHOT_BYTES,
    ) -> ThinningPlan:
        """Delete the arrays of snapshots that are old or too large together; return which.

        Every one is kept for a day, one of each hour for a week, and one of each day from then on:
        the log makes the others again. What is kept for receipts is held in its bounds, too.

        Args:
            key: the experiment.
            between: called between transactions, to let others write.
            most_bytes: that the snapshots may have together; beyond it the oldest go first.
        """
        now = self.clock()
        kept = self.store.snapshots.kept(
            key, before=now - EVERY_SECONDS, waiting_since=now - WAITING_SECONDS
        )
        plan = plan_thinning(kept, now=now, most_bytes=most_bytes)
        versions = [*plan.by_age, *plan.by_size]
        for start in range(0, len(versions), _PRUNED_AT_ONCE):
            if start:
                between()
            self.store.snapshots.prune(key, versions[start : start + _PRUNED_AT_ONCE])
        self._prune_receipts(key, between)
        return plan

    def _prune_receipts(self, key: str, between: Callable[[], object]) -> None:
        """Hold what is kept for receipts in its bounds."""
        record = self.store.experiments.record(key)
        if record.learned_version == 0:
            return
        n_arms = len(record.configuration.arms)
        newest = self.store.snapshots.snapshot(key, record.learned_version)
        sent = float(ArmCounts.load(newest.arm_counts).sent.sum())
        while self.store.snapshots.prune_receipts(
            key,
            share=sampled_share(n_arms, sent),
            most_asked=most_receipts(n_arms),
            most=_RECEIPTS_AT_ONCE,
        ):
            between()

    def prune_networks(self, *, between: Callable[[], object] = lambda: None) -> None:
        """Delete counts of networks that no event in the log can be judged by any more."""
        while self.store.snapshots.prune_networks(now=self.clock()):
            between()

    def retain(
        self,
        key: str,
        *,
        between: Callable[[], object] = lambda: None,
        enough: float = math.inf,
    ) -> int:
        """Remove decisions that are older than the experiment's retention; return how many.

        Their sums stay. Nothing is removed where no retention is declared.

        Args:
            key: the experiment.
            between: called between transactions, to let others write.
            enough: how many are enough for now: once there are so many, there may be more.

        Raises:
            NotFound: there is no such experiment.
        """
        days = self.store.experiments.record(key).configuration.experiment.retention_days
        if days is None:
            return 0
        before = self.clock() - days * DAY
        return remove_old(self.store, key, before=before, between=between, enough=enough)

    def sum_anew(
        self,
        key: str,
        *,
        between: Callable[[], object] = lambda: None,
        portions: float = math.inf,
    ) -> bool:
        """Sum the log anew where an earlier version stored less than results are read from.

        Folds go on meanwhile, and an interruption loses nothing.

        Args:
            key: the experiment.
            between: called between transactions, to let others write.
            portions: how many transactions are enough for now.

        Returns:
            True where nothing is left to be done.

        Raises:
            NotFound: there is no such experiment.
        """
        return sum_anew(self.store, key, between=between, portions=portions)

    def rescore(
        self,
        key: str,
        *,
        between: Callable[[], object] = lambda: None,
        portions: float = math.inf,
    ) -> bool:
        """Judge opens and clicks anew where the experiment's rules against machines have changed.

        Folds go on meanwhile, and an interruption loses nothing. What is final stays, and so does
        what was removed from the log.

        Args:
            key: the experiment.
            between: called between transactions, to let others write.
            portions: how many transactions are enough for now.

        Returns:
            True where nothing is left to be done, or nothing can be at the moment.

        Raises:
            NotFound: there is no such experiment.
        """
        return rescore(self.store, key, now=self.clock(), between=between, portions=portions)

    def set_aside(self, key: str) -> SetAside:
        """Count the judged events of an experiment: persons', and those that are set aside.

        Raises:
            NotFound: there is no such experiment.
        """
        return describe_set_aside(self.store.snapshots.state(key, 1), self.clock())

    def results(self, key: str) -> Results:
        """Compute the results of an experiment, from its snapshots alone.

        Raises:
            NotFound: there is no such experiment.
        """
        if (cached := self._results.get(key)) is not None:
            record = self.store.experiments.record(key)
            if cached[0] == _results_key(record, self.store.voids.actors(key)):
                return cached[1]
        state = self.store.snapshots.state(key, _HISTORY_POINTS)
        record = state.record
        inference = load_inference_state(record.configuration, state.snapshot)
        resummed = resummed_part(state, inference)
        active = self._policies.newest(record, state.snapshot)
        results = summarise(
            record,
            active,
            inference,
            state.points,
            state.statements,
            resummed=resummed,
            senders=check_senders(record, state.snapshot, state.actors),
            eligible_sets=eligible_set_counts(record.configuration, state.eligible_sets),
            excluded_bounces=count_excluded_bounces(state.actors),
            guardrails=guardrail_report(record.configuration, state.snapshot),
        )
        if resummed is None:
            self._results[key] = (_results_key(record, state.actors), results)
        return results


def _results_key(record: ExperimentRecord, actors: Sequence[ActorCounts]) -> tuple[Any, ...]:
    """Return what results depend on: as long as it is the same, so are they.

    A fold in which all new emails were cancelled counts who did so, and makes no version.
    """
    return (
        record.id,
        record.state,
        record.configuration.version,
        record.learned_version,
        record.data_quality,
        record.voided,
        list(actors),
    )


def _distinct(ids: Sequence[str]) -> list[str]:
    return list(dict.fromkeys(ids))


def _in_rows_of_call(marks: MarkResult, ids: Sequence[str]) -> MarkResult:
    """Name refused rows by their first positions among `ids`, of which some may come again."""
    if not marks.refused:
        return marks
    first = {decision_id: row for row, decision_id in reversed(list(enumerate(ids)))}
    refused = tuple(replace(r, row=first[r.id]) for r in marks.refused if r.id is not None)
    return replace(marks, refused=refused)
