//! One connection at work: it is opened, carries message after message, and is closed.
//!
//! What the two ways of carrying, [`data`](super::data) and [`chunks`](super::chunks), have in common: where messages
//! come from, the envelope and its answers, and where messages go when the connection is lost under them.

use std::{collections::VecDeque, time::Duration};

use super::{
    broken,
    connection::{Connection, Fault},
    detail_about, later,
    relay::{Job, Seat},
    reply::Reply,
};
use crate::send::channel::{Delivery, Refusal};

/// Postfix and others refuse a hundred or more messages on one connection.
const MESSAGES_PER_CONNECTION_MAX: usize = 100;
/// A buffer that a large message made is not kept.
const BUFFER_BYTES_MAX: usize = 1 << 20;
/// A server that closed in the middle of the content may have said why; the words are there already, or never come.
pub(super) const LAST_WORDS_TIMEOUT: Duration = Duration::from_millis(200);

pub(super) struct Line<'a> {
    pub seat: &'a mut Seat,
    pub connection: Connection,
    /// What is written next; kept from message to message.
    pub out: Vec<u8>,
    /// From a connection that was lost: they go first.
    pub back: &'a mut VecDeque<Job>,
    /// Messages that ended over this connection.
    pub ended: usize,
    /// A transaction was refused in its middle: RSET comes before the next.
    pub is_dirty: bool,
}

/// A message whose envelope is written, or about to be where commands go one by one.
pub(super) struct Flight {
    pub job: Job,
    pub has_reset: bool,
    /// The envelope is answered already.
    pub is_open: bool,
}

/// The connection is of no more use.
pub(super) struct Dead;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Reset,
    Mail,
    Rcpt,
    Data,
}

impl Step {
    pub fn name(self) -> &'static str {
        match self {
            Self::Reset => "RSET",
            Self::Mail => "MAIL",
            Self::Rcpt => "RCPT",
            Self::Data => "DATA",
        }
    }

    pub fn reason(self) -> Refusal {
        match self {
            Self::Reset => Refusal::ProtocolError,
            Self::Mail => Refusal::SenderRefused,
            Self::Rcpt => Refusal::RecipientRefused,
            Self::Data => Refusal::DataRefused,
        }
    }

    pub fn put(self, job: &Job, out: &mut Vec<u8>) {
        let message = &job.message;
        let parts: [&str; 3] = match self {
            Self::Reset => ["RSET", "", ""],
            Self::Mail if message.bytes.is_ascii() => ["MAIL FROM:<", &message.from, ">"],
            Self::Mail => ["MAIL FROM:<", &message.from, "> BODY=8BITMIME"],
            Self::Rcpt => ["RCPT TO:<", &message.to, ">"],
            Self::Data => ["DATA", "", ""],
        };
        for part in parts {
            out.extend_from_slice(part.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }

    fn is_taken_by(self, reply: &Reply<'_>) -> bool {
        reply.code / 100 == if self == Self::Data { 3 } else { 2 }
    }
}

/// How an envelope was answered.
pub(super) enum Answer {
    Taken,
    /// The message ends, the connection goes on. `wants_content`: DATA was taken all the same.
    Refused {
        delivery: Delivery,
        wants_content: bool,
    },
    /// The connection is of no more use. `is_stale`: it is the server that left, the message is not at fault.
    Broken {
        delivery: Delivery,
        is_stale: bool,
    },
}

/// Carries messages until there are none for long.
pub(super) async fn work(mut seat: Seat) {
    let mut back = VecDeque::new();
    loop {
        let since = seat.spared();
        match seat.relay.clone().connect().await {
            Ok(connection) => {
                let (is_dirty, ended) = (false, 0);
                let mut line = Line { seat: &mut seat, connection, out: vec![], back: &mut back, ended, is_dirty };
                let offered = line.connection.extensions;
                let carried =
                    if offered.pipelining && offered.chunking { line.by_chunks().await } else { line.by_data().await };
                let connection = line.connection;
                if carried.is_ok() {
                    connection.quit().await;
                }
            }
            Err(unopened) => {
                if unopened.is_busy {
                    seat.spare(since);
                }
                for job in back.drain(..).chain(seat.take_to_fail()) {
                    seat.end(job, unopened.delivery.clone());
                }
            }
        }
        if back.is_empty() {
            return;
        }
    }
}

impl Line<'_> {
    /// The next message, waited for.
    pub async fn first(&mut self) -> Option<Job> {
        if self.out.capacity() > BUFFER_BYTES_MAX {
            self.out = vec![];
        }
        loop {
            if self.ended >= MESSAGES_PER_CONNECTION_MAX {
                return None;
            }
            let job = match self.back.pop_front() {
                Some(job) => job,
                None => self.seat.wait().await?,
            };
            if let Some(job) = self.checked(job) {
                return Some(job);
            }
        }
    }

    /// A message to go right behind those that are under way over this connection.
    pub fn more(&mut self, under_way: usize) -> Option<Job> {
        loop {
            if !self.connection.extensions.pipelining || self.ended + under_way >= MESSAGES_PER_CONNECTION_MAX {
                return None;
            }
            let job = self.back.pop_front().or_else(|| self.seat.take())?;
            if let Some(job) = self.checked(job) {
                return Some(job);
            }
        }
    }

    /// None: the message may not go any more, or this server cannot be given it; and that is told.
    fn checked(&mut self, job: Job) -> Option<Job> {
        let refused = |reason, text: &str| Delivery::Refused { reason, detail: text.to_owned() };
        let message = &job.message;
        if !job.permission.is_given() {
            self.seat.end(job, Delivery::Unsent);
            return None;
        }
        let refusal = if !is_fit(&message.from) {
            refused(Refusal::SenderRefused, "malformed address")
        } else if !is_fit(&message.to) {
            refused(Refusal::RecipientRefused, "malformed address")
        } else if !self.connection.extensions.eight_bit && !message.bytes.is_ascii() {
            refused(Refusal::DataRefused, "the message has 8-bit content and the server takes none")
        } else {
            return Some(job);
        };
        self.seat.end(job, refusal);
        None
    }

    pub fn end(&mut self, job: Job, delivery: Delivery) {
        self.ended += 1;
        self.seat.end(job, delivery);
    }

    /// The connection is lost and nothing of the message is at stake. The server may have closed while the connection
    /// waited: another one gets the message, once.
    pub fn lose(&mut self, mut job: Job, delivery: Delivery, is_stale: bool) {
        if is_stale && self.ended > 0 && !job.is_second {
            (job.is_second, job.at_stake) = (true, false);
            self.back.push_back(job);
        } else {
            self.end(job, delivery);
        }
    }

    /// The connection was lost by another message, before it was this one's turn.
    pub fn leave_behind(&mut self, flight: Flight) {
        self.ended = self.ended.max(1);
        self.lose(flight.job, later(Refusal::ConnectFailed, "the connection was lost before its turn"), true);
    }

    /// Reads the answers to an envelope that is written; one by one, where the server cannot do more, writes it.
    pub async fn envelope(&mut self, flight: &Flight, steps: &[Step]) -> Answer {
        let wait = self.seat.relay.settings.timeouts.command;
        let is_lockstep = !self.connection.extensions.pipelining;
        let job = &flight.job;
        let mut refusal: Option<Delivery> = None;
        for &step in steps {
            if step == Step::Reset && !flight.has_reset {
                continue;
            }
            if is_lockstep {
                if let Some(delivery) = refusal {
                    return Answer::Refused { delivery, wants_content: false };
                }
                self.out.clear();
                step.put(job, &mut self.out);
                if let Err(torn) = self.connection.write(&self.out, &[], wait).await {
                    return Answer::lost(None, step, &torn.fault);
                }
            }
            let reply = match self.connection.reply(wait).await {
                Ok(reply) => reply,
                Err(fault) => return Answer::lost(refusal, step, &fault),
            };
            match step {
                Step::Data if step.is_taken_by(&reply) => {
                    return match refusal {
                        Some(delivery) => Answer::Refused { delivery, wants_content: true },
                        None => Answer::Taken,
                    };
                }
                _ if step.is_taken_by(&reply) => continue,
                _ => {}
            }
            let is_stale = refusal.is_none() && (reply.is_closing() || step == Step::Reset);
            let is_over = !goes_on(&reply) || step == Step::Reset;
            let delivery = refusal.unwrap_or_else(|| match step {
                Step::Reset => later(Refusal::ProtocolError, &reply.text()),
                _ => refused(self.seat, &reply, step.reason(), job),
            });
            if is_over {
                return Answer::Broken { delivery, is_stale };
            }
            refusal = Some(delivery);
        }
        refusal.map_or(Answer::Taken, |delivery| Answer::Refused { delivery, wants_content: false })
    }

    /// What the answer behind the content, or none, makes of the message; and whether the connection goes on.
    pub async fn verdict(&mut self, job: &Job, wait: Duration) -> (Delivery, bool) {
        let reply = match self.connection.reply(wait).await {
            Ok(reply) => reply,
            Err(fault) => return (doubt(&fault.text(), job), false),
        };
        if reply.is_done() {
            return (Delivery::Sent { receipt: detail_about(&reply.text(), job.addresses()) }, true);
        }
        if !reply.is_passing() && !reply.is_final() {
            return (doubt(&reply.text(), job), false);
        }
        (refused(self.seat, &reply, Refusal::DataRefused, job), !reply.is_closing())
    }
}

impl Answer {
    /// A server that is silent would be so again; one that closed may only have tired of waiting.
    fn lost(refusal: Option<Delivery>, step: Step, fault: &Fault) -> Self {
        let is_stale = refusal.is_none() && matches!(fault, Fault::Lost(_));
        Self::Broken { delivery: refusal.unwrap_or_else(|| broken(step.name(), fault)), is_stale }
    }
}

/// Whether an address can stand in a command without ending it. Whether it is one, its author was told long before.
fn is_fit(address: &str) -> bool {
    address.bytes().all(|b| b.is_ascii_graphic() && b != b'<' && b != b'>') && address.contains('@')
}

/// Whether a refusal leaves the connection usable.
pub(super) fn goes_on(reply: &Reply<'_>) -> bool {
    (reply.is_passing() || reply.is_final()) && !reply.is_closing()
}

/// Behind the content only an answer tells what became of it.
pub(super) fn doubt(text: &str, job: &Job) -> Delivery {
    Delivery::InDoubt { detail: detail_about(&format!("behind the content's end: {text}"), job.addresses()) }
}

/// What a reply that is not the expected one means.
pub(super) fn refused(seat: &Seat, reply: &Reply<'_>, reason: Refusal, job: &Job) -> Delivery {
    if reply.is_busy() {
        let is_about_message = matches!(reason, Refusal::RecipientRefused | Refusal::DataRefused);
        if is_about_message && !reply.is_closing() && !reply.is_about_system() {
            seat.spare_domain_of(job);
        } else {
            seat.spare_for(job);
        }
    }
    let detail = detail_about(&reply.text(), job.addresses());
    match reply.code {
        // A login or its protection is missing (RFC 4954, section 6): the operator's to mend.
        530 | 538 => Delivery::Later { reason: Refusal::AuthFailed, detail, after: None },
        500..=599 => Delivery::Refused { reason, detail },
        400..=499 => Delivery::Later { reason, detail, after: None },
        _ => Delivery::Later { reason: Refusal::ProtocolError, detail, after: None },
    }
}
