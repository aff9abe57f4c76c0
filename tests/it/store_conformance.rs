//! One suite for the store, run against both databases: the run's fence, claims, takeovers, doubt, cancellation.

use std::collections::BTreeSet;

use campanile::api::policy::SoftBounces;
use campanile::store::{
    Sql, Store,
    campaign::{NewRun, Origin, Run, State},
    claims::Claim,
    event::{Event, EventType, MessageKey},
    home::Scope,
    ledger::{Batch, Deferral, Further, Outcome, Part, Recorded, Standing, Whose},
    planning::ChannelStep,
    suppression::{Asked, Cause, SoftBounce, Suppressed, WHOLE_STORE},
};
use jiff::Timestamp;
use sea_query::{Expr, Query, SelectStatement};

use crate::world::Postgres;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// Items 1 to `n`, each its own person; the third is excluded already.
fn items(n: i64) -> SelectStatement {
    let row = |id: i64| {
        let reason = if id == 3 { Expr::cust("'Duplicate'") } else { Expr::cust("CAST(NULL AS TEXT)") };
        Query::select()
            .expr_as(Expr::cust(format!("'{id}'")), "item")
            .expr_as(Expr::cust(format!("'p{id}'")), "profile")
            .expr_as(reason, "reason")
            .expr_as(Expr::cust("CAST(NULL AS TEXT)"), "device")
            .expr_as(Expr::cust(id.to_string()), "place")
            .to_owned()
    };
    let mut all = row(1);
    (2..=n).for_each(|id| {
        all.union(sea_query::UnionType::All, row(id));
    });
    all
}

async fn planned(store: &Store, name: &str, n: i64, once: bool) -> Run {
    let new = NewRun {
        namespace: "ns",
        name,
        campaign: "c",
        dataset: "d",
        mode: "Live",
        origin: Origin::Hand,
        scheduled: at(0),
        predecessor: None,
        revision: ("hash", "{}"),
    };
    let (run, is_new) = store.create_run(&new, at(0)).await.unwrap();
    assert!(is_new);
    let mut tx = store.begin().await.unwrap();
    let step = ChannelStep {
        run: &run,
        step_no: 1,
        step: "mail",
        campaigns: &["c".to_owned()],
        channel: "out",
        expires: at(1_000),
        once_since: once.then_some(at(-1_000)),
        is_several: false,
        shards: store.shards().await.unwrap(),
    };
    tx.plan_channel(&step, &items(n), at(0)).await.unwrap();
    assert!(tx.move_run(run.no, State::Pending, State::Sending, "", "", at(0)).await.unwrap());
    tx.commit().await.unwrap();
    store.run("ns", name).await.unwrap().unwrap()
}

async fn claim_all(store: &Store, worker: &str, size: i64) -> Vec<Batch> {
    let mut batches = vec![];
    while let Some(Claim::Range(batch)) = store.claim(("ns", "out"), (worker, 0), (size, size), at(1)).await.unwrap() {
        batches.push(batch);
    }
    batches
}

async fn end(store: &Store, batch: &Batch, outcome: Outcome) -> bool {
    let mut tx = store.begin().await.unwrap();
    let records: Vec<Recorded> = (batch.first_seq..=batch.last_seq)
        .map(|seq| Recorded { seq, item: seq.to_string(), outcome, reason: None, detail: None })
        .collect();
    let is_mine = tx.close_batch(batch).await.unwrap();
    tx.put_outcomes(batch.part, &records, at(2)).await.unwrap();
    if is_mine {
        tx.commit().await.unwrap();
    }
    is_mine
}

async fn counts(store: &Store, run: &Run) -> (i64, i64, i64, i64, i64, i64) {
    let all = store.counts(run).await.unwrap();
    let t = all[0].1.totals;
    assert!(t.is_conserved(), "{t:?}");
    (t.entered, t.sent, t.excluded, t.cancelled, t.in_doubt, t.waiting)
}

async fn a_run_starts_once(store: &Store) {
    let new = NewRun {
        namespace: "ns",
        name: "same",
        campaign: "c",
        dataset: "d",
        mode: "Live",
        origin: Origin::Schedule,
        scheduled: at(0),
        predecessor: None,
        revision: ("h", "{}"),
    };
    let (first, second) = tokio::join!(store.create_run(&new, at(0)), store.create_run(&new, at(0)));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.0.no, second.0.no);
    assert!(first.1 != second.1, "exactly one of two made it");
    assert!(store.has_run_by_schedule("ns", "c").await.unwrap());
}

async fn every_message_is_claimed_once(store: &Store) {
    let run = planned(store, "claims", 40, false).await;
    assert_eq!(counts(store, &run).await, (40, 0, 1, 0, 0, 39));
    let (a, b) = tokio::join!(claim_all(store, "a", 7), claim_all(store, "b", 5));
    let seqs: Vec<(i64, i64)> =
        a.iter().chain(&b).flat_map(|b| (b.first_seq..=b.last_seq).map(|s| (b.part.shard, s))).collect();
    // A worker that was too slow for one claim stops; the rest is claimed now.
    let rest = claim_all(store, "a", 50).await;
    let rest: Vec<(i64, i64)> =
        rest.iter().flat_map(|b| (b.first_seq..=b.last_seq).map(|s| (b.part.shard, s))).collect();
    let all: BTreeSet<_> = seqs.iter().chain(&rest).collect();
    assert_eq!((seqs.len() + rest.len(), all.len()), (39, 39));
    store.move_run(run.no, State::Sending, State::Done, "Completed", "", at(3)).await.unwrap();
}

async fn who_was_taken_over_records_nothing(store: &Store) {
    let run = planned(store, "takeover", 2, false).await;
    for batch in claim_all(store, "slow", 10).await {
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tx.standing(&batch).await.unwrap(), Standing::Open);
        tx.put_attempts(batch.part, (batch.first_seq, batch.first_seq), None, "slow", at(1)).await.unwrap();
        tx.commit().await.unwrap();
        let mut tx = store.begin().await.unwrap();
        let taken = tx.take_over(&batch, "fast").await.unwrap().unwrap();
        assert!(tx.take_over(&batch, "third").await.unwrap().is_none());
        tx.commit().await.unwrap();
        assert!(!end(store, &batch, Outcome::Sent).await, "the old owner must not record");
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tx.standing(&batch).await.unwrap(), Standing::Lost);
        let unknown = tx.unknown_fates(taken.part, (taken.first_seq, taken.last_seq), Whose::Batch).await.unwrap();
        assert_eq!(unknown.len(), 1);
        assert!(
            tx.put_attempts(batch.part, (batch.first_seq, batch.first_seq), None, "slow", at(2)).await.is_err(),
            "an attempt is made once"
        );
        drop(tx);
        assert_eq!(store.last_attempted(&taken).await.unwrap(), Some(taken.first_seq));
        assert!(end(store, &taken, Outcome::InDoubt).await);
    }
    assert_eq!(counts(store, &run).await, (2, 0, 0, 0, 2, 0));
    assert!(!store.is_unfinished(run.run_day, run.no).await.unwrap());
    store.move_run(run.no, State::Sending, State::Done, "CompletedWithDoubt", "", at(3)).await.unwrap();
}

async fn what_is_put_aside_comes_back_when_it_is_due(store: &Store) {
    let run = planned(store, "deferred", 1, false).await;
    let batch = claim_all(store, "w", 10).await.remove(0);
    let (part, seq) = (batch.part, batch.first_seq);
    let deferral = |attempts, due| Deferral { seq, attempts, due: at(due), reason: "Timeout".into() };
    let mut tx = store.begin().await.unwrap();
    tx.put_attempts(part, (seq, seq), None, "w", at(1)).await.unwrap();
    tx.put_deferrals(part, &[deferral(1, 60)], at(2)).await.unwrap();
    assert!(tx.close_batch(&batch).await.unwrap());
    tx.commit().await.unwrap();
    let claim = |second| store.claim(("ns", "out"), ("w", 0), (10, 10), at(second));
    assert!(claim(59).await.unwrap().is_none());
    assert_eq!(store.next_due().await.unwrap(), Some(at(60)));
    assert!(store.is_unfinished(run.run_day, run.no).await.unwrap());
    assert!(!store.has_first_attempts_left(run.run_day, run.no).await.unwrap());
    assert_eq!(claim(60).await.unwrap(), Some(Claim::Due(part, vec![seq])));
    assert!(claim(60).await.unwrap().is_none(), "it is leased");
    let mut tx = store.begin().await.unwrap();
    // The first attempt is known to have failed: nothing is in doubt.
    assert!(tx.unknown_fates(part, (seq, seq), Whose::Lease).await.unwrap().is_empty());
    assert_eq!(tx.leased(part, "w").await.unwrap(), [(seq, 1)]);
    drop(tx);
    // Given back without a trace of its second attempt, or with one that was committed and surely not made.
    store.give_back_untried(part, &[seq], "w", at(61)).await.unwrap();
    assert_eq!(claim(61).await.unwrap(), Some(Claim::Due(part, vec![seq])));
    let mut tx = store.begin().await.unwrap();
    tx.put_further_attempts(part, &[Further { seq, attempt: 2, kept: None }], "w", at(61)).await.unwrap();
    tx.commit().await.unwrap();
    store.give_back_untried(part, &[seq], "w", at(62)).await.unwrap();
    assert_eq!(claim(62).await.unwrap(), Some(Claim::Due(part, vec![seq])));
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.leased(part, "w").await.unwrap(), [(seq, 2)]);
    assert!(tx.unknown_fates(part, (seq, seq), Whose::Lease).await.unwrap().is_empty());
    tx.put_further_attempts(part, &[Further { seq, attempt: 3, kept: None }], "w", at(62)).await.unwrap();
    assert_eq!(tx.unknown_fates(part, (seq, seq), Whose::Lease).await.unwrap().len(), 1);
    let sent = Recorded { seq, item: "1".into(), outcome: Outcome::Sent, reason: None, detail: None };
    assert!(!tx.end_deferred(part, &[seq], "other").await.unwrap());
    assert!(tx.end_deferred(part, &[seq], "w").await.unwrap());
    tx.put_outcomes(part, &[sent], at(63)).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(counts(store, &run).await, (1, 1, 0, 0, 0, 0));
    store.move_run(run.no, State::Sending, State::Done, "Completed", "", at(61)).await.unwrap();
}

async fn what_is_leased_again_is_not_its_old_batch_s(store: &Store) {
    let run = planned(store, "two-claims", 1, false).await;
    let batch = claim_all(store, "dead", 10).await.remove(0);
    let (part, seq) = (batch.part, batch.first_seq);
    let mut tx = store.begin().await.unwrap();
    tx.put_attempts(part, (seq, seq), None, "dead", at(1)).await.unwrap();
    tx.put_deferrals(part, &[Deferral { seq, attempts: 1, due: at(1), reason: "Timeout".into() }], at(1))
        .await
        .unwrap();
    tx.commit().await.unwrap();
    // Another worker is at its second attempt while the batch's owner dies.
    let claim = store.claim(("ns", "out"), ("alive", 0), (10, 10), at(2)).await.unwrap();
    assert_eq!(claim, Some(Claim::Due(part, vec![seq])));
    let mut tx = store.begin().await.unwrap();
    tx.put_further_attempts(part, &[Further { seq, attempt: 2, kept: None }], "alive", at(2)).await.unwrap();
    assert!(tx.unknown_fates(part, (seq, seq), Whose::Batch).await.unwrap().is_empty());
    assert_eq!(tx.unknown_fates(part, (seq, seq), Whose::Lease).await.unwrap().len(), 1);
    let sent = Recorded { seq, item: "1".into(), outcome: Outcome::Sent, reason: None, detail: None };
    assert!(tx.end_deferred(part, &[seq], "alive").await.unwrap());
    tx.put_outcomes(part, &[sent], at(3)).await.unwrap();
    assert!(tx.close_batch(&batch).await.unwrap());
    tx.commit().await.unwrap();
    store.move_run(run.no, State::Sending, State::Done, "Completed", "", at(3)).await.unwrap();
}

async fn a_stop_holds_at_every_claim_and_attempt(store: &Store) {
    let run = planned(store, "stopped", 2, false).await;
    let claim = |second| store.claim(("ns", "out"), ("w", 0), (1, 1), at(second));
    let Some(Claim::Range(batch)) = claim(1).await.unwrap() else { panic!("nothing to claim") };
    for scope in [
        Scope::All,
        Scope::Namespace("ns".into()),
        Scope::Campaign("ns".into(), "c".into()),
        Scope::Channel("ns".into(), "out".into()),
    ] {
        store.stop(&scope, "test", at(1)).await.unwrap();
        assert!(claim(1).await.unwrap().is_none(), "{scope:?}");
        let mut tx = store.begin().await.unwrap();
        assert_eq!(tx.standing(&batch).await.unwrap(), Standing::Held, "{scope:?}");
        drop(tx);
        assert!(store.start(&scope).await.unwrap());
    }
    store.stop(&Scope::Namespace("other".into()), "test", at(1)).await.unwrap();
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.standing(&batch).await.unwrap(), Standing::Open);
    drop(tx);
    assert!(end(store, &batch, Outcome::Sent).await);

    // What waits is cancelled, what was sent stays sent.
    store.move_run(run.no, State::Sending, State::Cancelling, "Cancelled", "", at(2)).await.unwrap();
    assert!(claim(2).await.unwrap().is_none());
    assert!(store.cancel_waiting(&run, at(2)).await.unwrap());
    assert_eq!(counts(store, &run).await, (2, 1, 0, 1, 0, 0));
}

async fn what_is_left_of_a_batch_is_claimed_by_the_next(store: &Store) {
    let run = planned(store, "left", 1, false).await;
    let batch = claim_all(store, "w", 10).await.remove(0);
    let mut tx = store.begin().await.unwrap();
    assert!(tx.leave(&batch, batch.first_seq).await.unwrap());
    tx.commit().await.unwrap();
    let again = claim_all(store, "v", 10).await.remove(0);
    assert_eq!((again.first_seq, again.last_seq, again.worker.as_str()), (batch.first_seq, batch.last_seq, "v"));
    assert!(again.fence > batch.fence);
    let mut tx = store.begin().await.unwrap();
    assert!(!tx.leave(&batch, batch.first_seq).await.unwrap(), "the old owner has nothing to leave");
    drop(tx);
    assert!(end(store, &again, Outcome::Sent).await);
    store.move_run(run.no, State::Sending, State::Done, "Completed", "", at(3)).await.unwrap();
}

async fn slots_follow_each_other_and_quotas_end(store: &Store) {
    let mut tx = store.begin().await.unwrap();
    assert_eq!(tx.reserve("ns", "channel out", 3, 100, 1_000).await.unwrap(), 1_000);
    // Whoever asks next, and whatever his clock says, is behind.
    assert_eq!(tx.reserve("ns", "channel out", 2, 100, 900).await.unwrap(), 1_300);
    assert_eq!(tx.reserve("ns", "channel out", 1, 100, 1_400).await.unwrap(), 1_500);
    // Nobody saves up what he did not use.
    assert_eq!(tx.reserve("ns", "channel out", 1, 100, 9_000).await.unwrap(), 9_000);
    assert_eq!(tx.reserve("other", "channel out", 1, 100, 0).await.unwrap(), 0);
    assert_eq!(tx.take_quota(("ns", "out"), 7, 6, 10).await.unwrap(), 6);
    assert_eq!(tx.take_quota(("ns", "out"), 7, 6, 10).await.unwrap(), 4);
    assert_eq!(tx.take_quota(("ns", "out"), 7, 6, 10).await.unwrap(), 0);
    assert_eq!(tx.take_quota(("ns", "out"), 8, 6, 10).await.unwrap(), 6);
    tx.commit().await.unwrap();
}

async fn once_is_held_by_what_may_have_arrived(store: &Store) {
    let first = planned(store, "once-1", 2, true).await;
    let batches = claim_all(store, "w", 1).await;
    // The recorded item is the ledger's own.
    for (batch, outcome) in batches.iter().zip([Outcome::Sent, Outcome::Failed]) {
        let sql = "SELECT item FROM ledger WHERE run_no = $1 AND shard = $2 AND seq = $3";
        let row = store
            .fetch_one(Sql::new(sql).bind(batch.part.run_no).bind(batch.part.shard).bind(batch.first_seq))
            .await
            .unwrap()
            .unwrap();
        let mut tx = store.begin().await.unwrap();
        let record = Recorded { seq: batch.first_seq, item: row.get(0).unwrap(), outcome, reason: None, detail: None };
        tx.put_outcomes(batch.part, &[record], at(2)).await.unwrap();
        tx.close_batch(batch).await.unwrap();
        tx.commit().await.unwrap();
    }
    store.move_run(first.no, State::Sending, State::Done, "Completed", "", at(3)).await.unwrap();
    let second = planned(store, "once-2", 2, true).await;
    let all = store.counts(&second).await.unwrap();
    assert_eq!(
        (all[0].1.totals.excluded, all[0].1.reasons.get("AlreadySent"), all[0].1.totals.waiting),
        (1, Some(&1), 1)
    );
}

/// The messages of a run.
async fn messages(store: &Store, run: &Run) -> Vec<MessageKey> {
    let sql = "SELECT run_day, run_no, step_no, shard, seq FROM ledger WHERE run_no = $1 ORDER BY shard, seq";
    let key = |row: &campanile::store::Row| {
        let [run_day, run_no, step_no, shard, seq] = [0, 1, 2, 3, 4].map(|at| row.get(at).unwrap());
        MessageKey { part: Part { run_day, run_no, step_no, shard }, seq }
    };
    store.fetch(Sql::new(sql).bind(run.no)).await.unwrap().iter().map(key).collect()
}

async fn an_event_is_recorded_once_and_counted_by_messages(store: &Store) {
    let run = planned(store, "events", 40, false).await;
    let all = messages(store, &run).await;
    let part = all[0].part;
    let event = |at_message: usize, id: &str, ty: EventType| Event {
        message: all[at_message],
        id: id.to_owned(),
        ty,
        at: at(5),
        reason: (ty == EventType::Bounced).then(|| "UnknownMailbox".to_owned()),
        url: (ty == EventType::Clicked).then(|| "https://example.com/a".to_owned()),
        is_machine: id.starts_with("machine"),
    };
    let record = async |events: &[Event]| {
        let mut tx = store.begin().await.unwrap();
        let is_new = tx.record_events(events).await.unwrap();
        tx.commit().await.unwrap();
        is_new
    };
    let none =
        Event { message: MessageKey { part: Part { run_day: 1, ..part }, seq: 0 }, ..event(0, "x", EventType::Opened) };
    let first = [
        event(0, "a", EventType::Bounced),
        event(0, "a", EventType::Bounced),
        event(1, "a", EventType::Clicked),
        event(1, "b", EventType::Clicked),
        event(1, "machine", EventType::Opened),
        none,
        Event { message: MessageKey { part, seq: 99_999 }, ..event(0, "a", EventType::Opened) },
    ];
    assert_eq!(record(&first).await, [true, false, true, true, true, false, false]);
    assert_eq!(record(&first).await, [false; 7], "again is no other event");
    let both = [event(1, "c", EventType::Clicked), event(0, "b", EventType::Clicked)];
    assert_eq!(record(&both).await, [true; 2]);
    let totals = store.counts(&run).await.unwrap()[0].1.totals;
    assert!(totals.is_conserved(), "{totals:?}");
    assert_eq!((totals.bounced, totals.clicked, totals.opened, totals.delivered), (1, 2, 0, 0), "{totals:?}");
    // Rules see why, and nothing that machines did.
    let seen = store
        .fetch(Sql::new("SELECT type, coalesce(reason, ''), count(*) FROM event_of_message GROUP BY 1, 2 ORDER BY 1"))
        .await;
    let seen: Vec<(String, String, i64)> =
        seen.unwrap().iter().map(|row| (row.get(0).unwrap(), row.get(1).unwrap(), row.get(2).unwrap())).collect();
    let expected = [("Bounced", "UnknownMailbox", 1), ("Clicked", "", 4)];
    assert_eq!(seen, expected.map(|(ty, reason, n)| (ty.to_owned(), reason.to_owned(), n)));
}

async fn events_of_two_at_once_are_counted_once(store: &Store) {
    let run = planned(store, "at-once", 40, false).await;
    let all = messages(store, &run).await;
    let record = async |id: &'static str| {
        let events = [0, 20].map(|at_message: usize| Event {
            message: all[at_message],
            id: id.to_owned(),
            ty: EventType::Opened,
            at: at(5),
            reason: None,
            url: None,
            is_machine: false,
        });
        let mut tx = store.begin().await.unwrap();
        tx.record_events(&events).await.unwrap();
        tx.commit().await.unwrap();
    };
    tokio::join!(record("a"), record("b"), record("c"), record("d"));
    assert_eq!(store.counts(&run).await.unwrap()[0].1.totals.opened, 2);
}

async fn what_is_suppressed_longer_wins(store: &Store) {
    let key = store.address_key().await.unwrap();
    let hash = key.of_address("Ann@example.com");
    let suppressed = |namespace: &str, cause, until| Suppressed {
        namespace: namespace.to_owned(),
        medium: "email".to_owned(),
        hash: hash.clone(),
        cause,
        since: at(0),
        until,
    };
    let holds = async |namespace, second| {
        let asked = Asked { namespace, medium: "email", now: at(second), objection: None, erasing: None };
        store.suppression(asked, &key.of_address("ann@EXAMPLE.com ")).await.unwrap().map(|hold| hold.cause)
    };
    assert_eq!(holds("ns", 0).await, None);
    store.suppress(&[suppressed("ns", Cause::SoftBounces, Some(at(100)))]).await.unwrap();
    assert_eq!((holds("ns", 99).await.as_deref(), holds("ns", 100).await), (Some("SoftBounces"), None));
    assert_eq!(holds("other", 0).await, None);
    store.suppress(&[suppressed("ns", Cause::HardBounce, None)]).await.unwrap();
    store.suppress(&[suppressed("ns", Cause::SoftBounces, Some(at(200)))]).await.unwrap();
    assert_eq!(holds("ns", 1_000).await.as_deref(), Some("HardBounce"));
    store.suppress(&[suppressed(WHOLE_STORE, Cause::Complaint, None)]).await.unwrap();
    assert_eq!(holds("other", 0).await.as_deref(), Some("Complaint"));
    assert_eq!(store.address_hash("ann@example.com").await.unwrap(), Some(hash));
}

async fn soft_bounces_count_once_and_within_their_window(store: &Store) {
    let policy = SoftBounces { count: 3, within: "10s".parse().unwrap(), ..SoftBounces::default() };
    let bounce = async |namespace, id, second, is_store| {
        let bounce = SoftBounce { namespace, medium: "email", hash: "h", id, at: at(second) };
        let mut tx = store.begin().await.unwrap();
        let is_enough = tx.count_soft_bounce(&bounce, is_store, &policy).await.unwrap();
        tx.commit().await.unwrap();
        is_enough
    };
    assert!(!bounce("ns", "a", 1, false).await);
    assert!(!bounce("ns", "a", 1, false).await, "the same one again");
    assert!(!bounce("ns", "b", 2, false).await);
    assert!(!bounce("ns", "c", 12, false).await, "two of them are too old");
    assert!(!bounce("ns", "d", 13, false).await);
    assert!(!bounce("other", "e", 14, false).await);
    assert!(bounce("other", "e", 14, true).await, "of all namespaces there are three");
    assert!(bounce("ns", "f", 14, false).await);
}

async fn a_store_belongs_to_one_home(store: &Store) {
    assert!(store.enter("other", "test").await.unwrap_err().to_string().contains("another home"));
    assert!(store.enter("me", "production").await.is_err());
    store.enter("me", "test").await.unwrap();
}

async fn conforms(url: &str) {
    let store = Store::open(url).await.unwrap();
    store.enter("me", "test").await.unwrap();
    a_store_belongs_to_one_home(&store).await;
    a_run_starts_once(&store).await;
    every_message_is_claimed_once(&store).await;
    who_was_taken_over_records_nothing(&store).await;
    what_is_put_aside_comes_back_when_it_is_due(&store).await;
    what_is_leased_again_is_not_its_old_batch_s(&store).await;
    a_stop_holds_at_every_claim_and_attempt(&store).await;
    what_is_left_of_a_batch_is_claimed_by_the_next(&store).await;
    slots_follow_each_other_and_quotas_end(&store).await;
    once_is_held_by_what_may_have_arrived(&store).await;
    an_event_is_recorded_once_and_counted_by_messages(&store).await;
    events_of_two_at_once_are_counted_once(&store).await;
    what_is_suppressed_longer_wins(&store).await;
    soft_bounces_count_once_and_within_their_window(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_conforms() {
    let folder = tempfile::tempdir().unwrap();
    conforms(&format!("sqlite://{}", folder.path().join("store.db").display())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_conforms() {
    conforms(&Postgres::shared().await.unwrap().database().await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_may_begin_on_an_empty_database_at_once() {
    for _ in 0..5 {
        let url = Postgres::shared().await.unwrap().database().await.unwrap();
        let stores = futures::future::join_all((0..8).map(|_| Store::open(&url))).await;
        for store in stores {
            store.unwrap().enter("me", "test").await.unwrap();
        }
    }
}
