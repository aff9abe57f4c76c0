//! One step forward in the life of a run. Each is one transaction in the store; any process of the home may take the
//! next one, and two that take the same one take it once.

use jiff::Timestamp;

use super::{
    audiences::{self, Ground},
    engine::{self, Planned},
    fault,
};
use crate::{
    send::dispatch::load_pinned,
    store::{
        self, Store,
        campaign::{Run, State},
    },
};

/// Planning that is outrun this often is left to the next look.
const BEGUN_MAX: usize = 4;

/// What a look at a run came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Its campaign is suspended, stopped or deleted.
    Paused,
    /// Its predecessor has not ended.
    Waits,
    /// An audience that it uses is outside its guard or has not come yet, or it is not what its campaign expects; the
    /// audiences that were weighed.
    Held(Vec<String>),
    /// Its recipients are in the ledger; the audiences that were counted on the way.
    Planned(Vec<String>),
    /// Workers send.
    Sends,
    /// What there is to send is sent; a `wait` is over then.
    Rests(Timestamp),
    /// Workers still hold a part of what is being cancelled.
    Cancels,
    Ended,
}

/// Takes a run one step further.
///
/// # Errors
/// Of the store, where another try may succeed; a fault of the data ends the run.
pub async fn advance(store: &Store, run: &Run, now: Timestamp) -> store::Result<Progress> {
    match run.state {
        State::Pending if is_paused(store, run, now).await? => Ok(Progress::Paused),
        State::Pending if !has_settled(store, run, now).await? => Ok(Progress::Waits),
        State::Pending => plan(store, run, now).await,
        State::Sending if run.resume.is_some_and(|at| at <= now) && !is_paused(store, run, now).await? => {
            plan(store, run, now).await
        }
        State::Sending if !store.is_unfinished(run.run_day, run.no).await? => match run.resume {
            None => complete(store, run, now).await,
            Some(_) if is_paused(store, run, now).await? => Ok(Progress::Paused),
            Some(at) => Ok(Progress::Rests(at)),
        },
        State::Sending if is_paused(store, run, now).await? => Ok(Progress::Paused),
        State::Sending => Ok(Progress::Sends),
        State::Cancelling => {
            Ok(if store.cancel_waiting(run, now).await? { Progress::Ended } else { Progress::Cancels })
        }
        State::Done => Ok(Progress::Ended),
    }
}

/// Whether the campaign is suspended, stopped or deleted.
pub async fn is_paused(store: &Store, run: &Run, now: Timestamp) -> store::Result<bool> {
    let memory = store.remember(&run.namespace, &run.campaign, now).await?;
    Ok(memory.is_suspended || memory.is_held || store.stopped(&run.namespace, &run.campaign).await?.is_some())
}

/// A successor begins when its predecessor has ended, so that nobody is in both.
async fn has_settled(store: &Store, run: &Run, now: Timestamp) -> store::Result<bool> {
    let Some(no) = run.predecessor else { return Ok(true) };
    let Some(of) = store.run_by_no(no).await? else { return Ok(true) };
    if of.state == State::Cancelling {
        return store.cancel_waiting(&of, now).await;
    }
    Ok(of.state == State::Done)
}

async fn plan(store: &Store, run: &Run, now: Timestamp) -> store::Result<Progress> {
    let (bundle, plan) = load_pinned(store, run).await?;
    if (run.predecessor.is_none() || run.state != State::Pending)
        && let Some(why) = audiences::run_statements(store, &Ground::of(&bundle, &plan), now).await?
    {
        store.note_held(run.no, &why).await?;
        return Ok(Progress::Held(bundle.audiences.into_keys().collect()));
    }
    let of = match run.predecessor {
        Some(no) if run.state == State::Pending => store.run_by_no(no).await?,
        _ => None,
    };
    let before = match &of {
        Some(of) => Some((of, load_pinned(store, of).await?.1)),
        None => None,
    };
    let mut begun = 0;
    let planned = loop {
        let planned = match &before {
            Some((of, before)) => engine::plan_remainder(store, (&bundle, &plan), (run, of), before, now).await,
            None => engine::plan_run(store, &bundle, &plan, run, now).await,
        };
        begun += 1;
        // It sees one moment: a campaign that is declared anew while its run is planned outruns it.
        if begun == BEGUN_MAX || !planned.as_ref().is_err_and(store::Error::is_outrun) {
            break planned;
        }
    };
    let planned = match planned {
        Err(error) if error.is_fault() => {
            let inputs = audiences::inputs_now(store, &Ground::of(&bundle, &plan), run.scheduled).await;
            Err(fault::explain(store, &plan, &inputs, error).await)
        }
        planned => planned,
    };
    match planned {
        Ok(Planned::Held(why)) => {
            store.note_held(run.no, &why).await?;
            Ok(Progress::Held(bundle.audiences.into_keys().collect()))
        }
        Ok(_) => Ok(Progress::Planned(bundle.audiences.into_keys().chain(bundle.saved.into_keys()).collect())),
        Err(error) if error.is_passing() => Err(error),
        // A fault of the data, such as a sum that overflows: it would come again. Of a run that sends already, what waits
        // is cancelled.
        Err(error) => {
            let (to, progress) = match run.state {
                State::Pending => (State::Done, Progress::Ended),
                _ => (State::Cancelling, Progress::Cancels),
            };
            store.move_run(run.no, run.state, to, "StepFailed", &error.to_string(), now).await?;
            Ok(progress)
        }
    }
}

async fn complete(store: &Store, run: &Run, now: Timestamp) -> store::Result<Progress> {
    let in_doubt: i64 = store.counts(run).await?.iter().map(|(_, c)| c.totals.in_doubt).sum();
    let (reason, message) = match in_doubt {
        0 => ("Completed", String::new()),
        1 => ("CompletedWithDoubt", "one message is in doubt".to_owned()),
        n => ("CompletedWithDoubt", format!("{n} messages are in doubt")),
    };
    store.complete_run(run, reason, &message, now).await?;
    Ok(Progress::Ended)
}
