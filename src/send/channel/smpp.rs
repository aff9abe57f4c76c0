//! `sms.smpp`: texts over an operator's or an aggregator's message centre (SMPP 3.4).
//!
//! ```yaml
//! sms: {smpp: {host: smpp.example.com, from: "+393331234567", secretRef: {name: smpp}}}     # keys system_id, password
//! ```
//! A connection is bound as a transceiver: messages go out over it, and receipts and what people answer come in. The
//! first one is bound as long as the process sends live, the others (up to `connections`) when a window is full; over each
//! at most `depth` messages are under way. A text of several segments is several `submit_sm`, each with a user data header
//! that says which it is (3GPP TS 23.040, 9.2.3.24.1), since centres pass that on untouched, where not all know the
//! `sar_*` parameters. They go one behind the other; a receipt is asked of the last one, and of the others only if they fail.
//!
//! | answer to `submit_sm` | |
//! |---|---|
//! | `ESME_ROK` | sent; the receipt is the centre's id, several with a blank between |
//! | `ESME_RTHROTTLED`, `ESME_RMSGQFUL` | later |
//! | `ESME_RINVDSTADR`, `…TON`, `…NPI` of it | refused: no number of this centre's |
//! | `ESME_RINVSRCADR`, `…TON`, `…NPI` of it, `ESME_RSERTYPUNAUTH`, `ESME_RSERTYPDENIED`, `ESME_RPROHIBITED` | who sends: the operator's to mend, later |
//! | `ESME_RSYSERR`, `ESME_RSUBMITFAIL`, `ESME_RX_T_APPN`, `ESME_RSERTYPUNAVAIL`, `ESME_RUNKNOWNERR` | later |
//! | `ESME_RINVBNDSTS`, a `generic_nack` with `ESME_ROK` | later: the connection is not what it was |
//! | any other | refused: the message |
//! | none in a minute, or the connection is lost behind it | in doubt |
//! | to a later segment: throttled | the same segment again for a minute, then in doubt |
//!
//! | answer to `bind_transceiver` | |
//! |---|---|
//! | `ESME_RALYBND`, `ESME_RTHROTTLED`, `ESME_RSYSERR` | later: it is not possible now |
//! | any other but `ESME_ROK` | the login: the operator's to mend, later |

mod link;
mod pdu;
mod told;

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use async_trait::async_trait;
use rusmpp_core::CommandStatus;
use rustls::ClientConfig;
use tokio::{
    sync::{Mutex as AsyncMutex, OnceCell, OwnedSemaphorePermit, Semaphore, mpsc::UnboundedSender},
    time::{Instant, sleep},
};

use self::{
    link::{Link, Submitted},
    pdu::{Source, Submission},
};
pub use self::{
    pdu::is_number,
    told::{Receipt, Told},
};
use super::{Channel, Content, Delivery, Done, Envelope, Permission, Refusal, Text, detail};
use crate::send::segments::{self, Parts};

/// Registered for SMPP, and used for it under TLS.
pub const PORT: u16 = 2775;
pub const TLS_PORT: u16 = 3550;
/// For the TCP connection, the TLS handshake and the answer to the bind, each.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// Centres answer within a second; giving up early leaves doubt.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A link is asked whether it is there, and counts as lost after three of these in silence.
const ENQUIRE_EVERY: Duration = Duration::from_secs(30);
/// A further link that a centre does not allow is not tried again for this long, while another one stands.
const LINK_RESTS: Duration = Duration::from_secs(60);
/// The pause before a bind that only listens is tried again: first, and at most.
const REBIND: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// The pause before a later segment that was throttled goes again.
const SEGMENT_PAUSE: Duration = Duration::from_secs(1);
/// What a text may come to: a part's number has eight bits.
const SEGMENTS_MAX: usize = 255;

/// The longest waits.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub open: Duration,
    pub answer: Duration,
    /// Between two questions whether the other side is there.
    pub enquire: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { open: OPEN_TIMEOUT, answer: ANSWER_TIMEOUT, enquire: ENQUIRE_EVERY }
    }
}

/// How to reach a message centre.
#[derive(Clone)]
pub struct Settings {
    pub host: String,
    pub port: u16,
    pub is_encrypted: bool,
    pub system_id: String,
    pub password: String,
    /// Empty unless the centre asks for one.
    pub system_type: String,
    /// A number as E.164 writes it, a short code, or a name.
    pub from: String,
    /// Links, and messages under way over each.
    pub connections: usize,
    pub depth: usize,
    pub timeouts: Timeouts,
    /// Certificates to trust beside the system's, in PEM.
    pub roots: Vec<Vec<u8>>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, system_id, connections, depth, .. } = self;
        write!(f, "Settings {{ {system_id}@{host}:{port}, {connections} × {depth} }}")
    }
}

pub struct Smpp {
    pool: Arc<Pool>,
}

struct Pool {
    settings: Settings,
    tls: OnceCell<Arc<ClientConfig>>,
    /// Who takes what comes in; without one the centre keeps it.
    told: Option<Arc<dyn Told>>,
    /// Messages under way over all links.
    places: Arc<Semaphore>,
    slots: Vec<Slot>,
}

/// A link, or the place for one.
struct Slot {
    places: Arc<Semaphore>,
    held: AsyncMutex<Held>,
    rests_until: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Held {
    link: Option<Arc<Link>>,
    /// When it could not be bound the last time, and why.
    failed: Option<(Instant, Delivery)>,
}

impl Held {
    fn link(&self) -> Option<&Arc<Link>> {
        self.link.as_ref().filter(|link| !link.is_closed())
    }
}

impl Slot {
    fn is_bound(&self) -> bool {
        self.held.try_lock().is_ok_and(|held| held.link().is_some())
    }

    fn is_resting(&self) -> bool {
        let until = self.rests_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| until > Instant::now())
    }

    fn rest(&self) {
        *self.rests_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + LINK_RESTS);
    }
}

impl Smpp {
    pub fn new(settings: Settings, told: Option<Arc<dyn Told>>) -> Self {
        let (connections, depth) = (settings.connections.max(1), settings.depth.max(1));
        let slot = |_| Slot {
            places: Arc::new(Semaphore::new(depth)),
            held: AsyncMutex::default(),
            rests_until: Mutex::default(),
        };
        let pool = Arc::new(Pool {
            places: Arc::new(Semaphore::new(connections * depth)),
            slots: (0..connections).map(slot).collect(),
            tls: OnceCell::new(),
            settings,
            told,
        });
        if pool.told.is_some() {
            tokio::spawn(keep_bound(Arc::downgrade(&pool)));
        }
        Self { pool }
    }
}

/// Keeps the first link, so that what comes back finds somebody, until the pool is gone.
async fn keep_bound(pool: Weak<Pool>) {
    let mut pause = REBIND.0;
    loop {
        let Some(pool) = pool.upgrade() else { return };
        match pool.link(0).await {
            Ok(_) => pause = REBIND.0,
            Err(delivery) => {
                tracing::warn!(?delivery, host = pool.settings.host, "the message centre is not bound");
                pause = (pause * 2).min(REBIND.1);
            }
        }
        drop(pool);
        sleep(pause).await;
    }
}

impl Pool {
    /// The link of a slot, bound anew if it is gone.
    async fn link(&self, index: usize) -> Result<Arc<Link>, Delivery> {
        let asked = Instant::now();
        let mut held = self.slots[index].held.lock().await;
        if let Some(link) = held.link() {
            return Ok(link.clone());
        }
        // Who waited while it failed for another need not wait for the same again.
        if let Some((_, why)) = held.failed.as_ref().filter(|(at, _)| *at > asked) {
            return Err(why.clone());
        }
        *held = Held::default();
        match self.open().await {
            Ok(link) => {
                held.link = Some(link.clone());
                Ok(link)
            }
            Err(why) => {
                held.failed = Some((Instant::now(), why.clone()));
                Err(why)
            }
        }
    }

    async fn open(&self) -> Result<Arc<Link>, Delivery> {
        let tls = match self.settings.is_encrypted {
            true => Some(self.tls().await?),
            false => None,
        };
        Ok(Arc::new(Link::open(&self.settings, tls, self.told.clone()).await?))
    }

    async fn tls(&self) -> Result<Arc<ClientConfig>, Delivery> {
        let build = || async {
            let roots = self.settings.roots.clone();
            let building = tokio::task::spawn_blocking(move || super::smtp::tls::config(&roots).map(Arc::new)).await;
            building.unwrap_or_else(|error| Err(error.to_string()))
        };
        let tls = self.tls.get_or_try_init(build).await;
        tls.cloned().map_err(|text: String| Delivery::later(Refusal::TlsFailed, &text))
    }

    /// A link with a place for one more message. Another one is bound only where the windows of those before it are full.
    async fn place(&self) -> Result<(Arc<Link>, OwnedSemaphorePermit), Delivery> {
        loop {
            let open = || self.slots.iter().enumerate().filter(|(_, slot)| !slot.is_resting());
            let free = open().find_map(|(index, slot)| Some((index, slot.places.clone().try_acquire_owned().ok()?)));
            let (index, place) = match free {
                Some(free) => free,
                None => {
                    // Links that the centre does not allow leave more messages than windows: they wait at the first.
                    let index = open().next().map_or(0, |(index, _)| index);
                    let place = self.slots[index].places.clone().acquire_owned().await;
                    (index, place.map_err(|_| Delivery::later(Refusal::ConnectFailed, "the channel is closed"))?)
                }
            };
            match self.link(index).await {
                Ok(link) => return Ok((link, place)),
                Err(delivery) if !self.is_bound_beside(index).await => return Err(delivery),
                Err(delivery) => {
                    tracing::info!(?delivery, "the message centre allows no further link for now");
                    self.slots[index].rest();
                }
            }
        }
    }

    /// Whether messages can go over another link than this one; the first may only just be being bound.
    async fn is_bound_beside(&self, index: usize) -> bool {
        let mut others = self.slots.iter().enumerate().filter(|(other, _)| *other != index);
        others.any(|(_, slot)| slot.is_bound()) || index > 0 && self.link(0).await.is_ok()
    }

    async fn deliver(&self, message: &Envelope) -> Delivery {
        let Content::Text(text) = &message.content else {
            let detail = "a message centre takes nothing but texts".to_owned();
            return Delivery::Refused { reason: Refusal::ProtocolError, detail };
        };
        let parts = segments::parts(&text.text);
        if parts.octets.len() > SEGMENTS_MAX {
            let detail = format!("the text has more than {SEGMENTS_MAX} segments");
            return Delivery::Refused { reason: Refusal::DataRefused, detail };
        }
        match self.place().await {
            Ok((link, _place)) => self.submit(&link, message, text, parts).await,
            Err(delivery) => delivery,
        }
    }

    /// One segment behind the other. What was not begun has cost nobody anything; what was half done is told as that.
    async fn submit(&self, link: &Link, message: &Envelope, text: &Text, parts: Parts) -> Delivery {
        let count = parts.octets.len();
        let from = text.from.as_deref().unwrap_or(&self.settings.from);
        // The same for every attempt of a message, so that a phone puts the segments of both together.
        let reference = u8::from_str_radix(message.key().get(..2).unwrap_or("0"), 16).unwrap_or(0);
        let mut ids = vec![];
        for (index, octets) in parts.octets.iter().enumerate() {
            let submission = Submission {
                from: Source::of(from),
                to: &text.to,
                alphabet: parts.alphabet,
                octets,
                part: (count > 1).then_some((reference, count, index + 1)),
                is_last: index + 1 == count,
            };
            let submission = match submission.bytes() {
                Ok(submission) => submission,
                Err(problem) => return Delivery::Refused { reason: Refusal::DataRefused, detail: detail(&problem) },
            };
            let until = Instant::now() + self.settings.timeouts.answer;
            loop {
                // A text that was begun is ended, or a phone gets a part of it.
                let permission = if index == 0 { message.permission.clone() } else { Permission::default() };
                match link.submit(submission.clone(), permission).await {
                    Submitted::Taken(CommandStatus::EsmeRok, id) => ids.push(id),
                    Submitted::Taken(CommandStatus::EsmeRthrottled | CommandStatus::EsmeRmsgqful, _)
                        if index > 0 && Instant::now() < until =>
                    {
                        sleep(SEGMENT_PAUSE).await;
                        continue;
                    }
                    other => return ended(other, (index, count)),
                }
                break;
            }
        }
        // Whole, since what becomes of the message is told under them.
        let ids = ids.iter().map(|id: &String| id.chars().filter(char::is_ascii_graphic).collect::<String>());
        Delivery::Sent { receipt: ids.filter(|id| !id.is_empty()).collect::<Vec<_>>().join(" ") }
    }
}

/// How an attempt ended that was not taken whole; `taken` of `count` segments were.
fn ended(submitted: Submitted, (taken, count): (usize, usize)) -> Delivery {
    let delivery = match submitted {
        Submitted::Taken(status, _) => judge(status),
        Submitted::Unsent => return Delivery::Unsent,
        Submitted::Unbegun(why) => Delivery::later(Refusal::ConnectFailed, &why),
        Submitted::Lost(why) => Delivery::InDoubt { detail: detail(&why) },
    };
    match delivery {
        Delivery::Later { detail: why, .. } | Delivery::InDoubt { detail: why } if taken > 0 => {
            Delivery::InDoubt { detail: detail(&format!("{taken} of {count} segments were taken: {why}")) }
        }
        other => other,
    }
}

/// As SMPP writes it, `ESME_RINVDSTADR`, or the number that a centre made up.
pub(super) fn word(status: CommandStatus) -> String {
    match status {
        CommandStatus::Other(code) => format!("status 0x{code:08x}"),
        known => {
            let name = format!("{known:?}");
            format!("ESME_{} (0x{:08x})", name.trim_start_matches("Esme").to_ascii_uppercase(), u32::from(known))
        }
    }
}

/// What an answer says of a message. `ESME_ROK` without a message is no answer to one.
fn judge(status: CommandStatus) -> Delivery {
    use CommandStatus as Status;
    let text = word(status);
    let reason = match status {
        Status::EsmeRthrottled | Status::EsmeRmsgqful => Refusal::Throttled,
        Status::EsmeRinvsrcadr
        | Status::EsmeRinvsrcton
        | Status::EsmeRinvsrcnpi
        | Status::EsmeRsertypunauth
        | Status::EsmeRsertypdenied
        | Status::EsmeRprohibited => Refusal::SenderRefused,
        Status::EsmeRsyserr
        | Status::EsmeRsubmitfail
        | Status::EsmeRxTAppn
        | Status::EsmeRsertypunavail
        | Status::EsmeRunknownerr => Refusal::Unavailable,
        Status::EsmeRinvbndsts | Status::EsmeRok => Refusal::ConnectFailed,
        Status::EsmeRinvdstadr | Status::EsmeRinvdstton | Status::EsmeRinvdstnpi => {
            return Delivery::Refused { reason: Refusal::RecipientRefused, detail: text };
        }
        _ => return Delivery::Refused { reason: Refusal::DataRefused, detail: text },
    };
    Delivery::later(reason, &text)
}

#[async_trait]
impl Channel for Smpp {
    async fn submit(&self, tag: u64, message: Envelope, done: &UnboundedSender<Done>) {
        let place = self.pool.places.clone().acquire_owned().await;
        let (pool, done) = (self.pool.clone(), done.clone());
        tokio::spawn(async move {
            let delivery = pool.deliver(&message).await;
            drop(place);
            // Nobody may be left to hear of it.
            let _ = done.send(Done { tag, delivery });
        });
    }

    fn may_doubt(&self) -> bool {
        true
    }

    fn connections(&self) -> usize {
        self.pool.slots.len()
    }

    fn is_told_by_receipt(&self) -> bool {
        true
    }
}
