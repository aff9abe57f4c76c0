//! BDAT, where CHUNKING (RFC 3030) and PIPELINING are offered: nothing is waited for while there are messages.
//!
//! ```text
//! C: MAIL RCPT                           S: 250 250
//! C: BDAT 1, RSET MAIL RCPT BDAT 2, …    S: 250
//! C: RSET MAIL RCPT BDAT 5               S: 250 250 250 250
//! ```
//! Content goes out before its envelope is answered, so a connection that is lost leaves all that were under way in
//! doubt; hence few are. The first after a pause waits for the answer to its envelope: the server may have closed in the
//! meantime, and the message must not be in doubt for that. `421` answers for those behind it, too: a server takes
//! commands in their order and nothing after it.
//!
//! RSET, because a chunk that was refused leaves the transaction open (RFC 3030, section 2), and whether it was is not
//! known yet when the next envelope is written.

use std::{collections::VecDeque, time::Duration};

use super::{
    broken,
    connection::{Fault, Torn},
    content::put_chunk,
    later,
    line::{Answer, Dead, Flight, LAST_WORDS_TIMEOUT, Line, Step, doubt, goes_on, refused},
    relay::Job,
};
use crate::send::channel::{Delivery, Refusal};

/// Messages under way over one connection: enough to fill most distances, few enough to be in doubt.
const UNDER_WAY_MAX: usize = 4;
const ENVELOPE: [Step; 3] = [Step::Reset, Step::Mail, Step::Rcpt];

/// How the dialogue about one message ended.
enum Ending {
    /// The connection goes on.
    Told(Delivery),
    /// 421. `is_untouched`: said to the envelope.
    Closed {
        delivery: Delivery,
        is_untouched: bool,
    },
    Lost(Delivery),
}

impl Line<'_> {
    pub async fn by_chunks(&mut self) -> Result<(), Dead> {
        let mut flights = VecDeque::new();
        let mut torn = None;
        loop {
            if flights.is_empty() {
                if torn.is_some() {
                    return Err(Dead);
                }
                let Some(flight) = self.begin().await? else { return Ok(()) };
                flights.push_back(flight);
                torn = self.fill(&mut flights, 1).await;
            } else if torn.is_none() && !self.connection.has_unread() {
                torn = self.fill(&mut flights, 0).await;
            }
            let Some(flight) = flights.pop_front() else { continue };
            match self.answers(&flight, torn.as_ref()).await {
                Ending::Told(delivery) => self.end(flight.job, delivery),
                Ending::Closed { delivery, is_untouched } => {
                    self.lose(flight.job, delivery, is_untouched);
                    flights.into_iter().for_each(|flight| self.leave_behind(flight));
                    return Err(Dead);
                }
                Ending::Lost(delivery) => {
                    self.end(flight.job, delivery);
                    for flight in flights {
                        if flight.job.at_stake {
                            let delivery = doubt("the connection was lost", &flight.job);
                            self.end(flight.job, delivery);
                        } else {
                            self.leave_behind(flight);
                        }
                    }
                    return Err(Dead);
                }
            }
        }
    }

    /// A message whose envelope is taken.
    async fn begin(&mut self) -> Result<Option<Flight>, Dead> {
        let wait = self.seat.relay.settings.timeouts.command;
        while let Some(job) = self.first().await {
            let mut flight = Flight { job, has_reset: std::mem::take(&mut self.is_dirty), is_open: true };
            self.out.clear();
            put_envelope(&flight, &mut self.out);
            if let Err(torn) = self.connection.write(&self.out, &[], wait).await {
                let is_stale = matches!(torn.fault, Fault::Lost(_));
                self.lose(flight.job, broken("MAIL", &torn.fault), is_stale);
                return Err(Dead);
            }
            match self.envelope(&flight, &ENVELOPE).await {
                Answer::Taken => {
                    flight.has_reset = false;
                    return Ok(Some(flight));
                }
                Answer::Refused { delivery, .. } => {
                    self.end(flight.job, delivery);
                    self.is_dirty = true;
                }
                Answer::Broken { delivery, is_stale } => {
                    self.lose(flight.job, delivery, is_stale);
                    return Err(Dead);
                }
            }
        }
        Ok(None)
    }

    /// Writes the content of the last so many flights, and further messages with their envelopes behind them.
    async fn fill(&mut self, flights: &mut VecDeque<Flight>, begun: usize) -> Option<Torn> {
        self.out.clear();
        let first = flights.len() - begun;
        let mut ends = [0; UNDER_WAY_MAX];
        for index in first..UNDER_WAY_MAX {
            if index == flights.len() {
                let Some(job) = self.more(index) else { break };
                let flight = Flight { job, has_reset: true, is_open: false };
                put_envelope(&flight, &mut self.out);
                flights.push_back(flight);
            }
            put_chunk(&flights[index].job.message.bytes, &mut self.out);
            ends[index] = self.out.len();
        }
        let wait = self.seat.relay.settings.timeouts.data;
        let torn = self.connection.write(&self.out, &ends[first..flights.len()], wait).await.err();
        let written = torn.as_ref().map_or(self.out.len(), |torn| torn.written);
        for (flight, end) in flights.iter_mut().zip(ends).skip(first) {
            flight.job.at_stake = end <= written;
        }
        // What was not begun is not touched by whatever the server still says.
        while flights.len() > first + begun && ends[flights.len() - 2] >= written && torn.is_some() {
            if let Some(flight) = flights.pop_back() {
                self.leave_behind(flight);
            }
        }
        torn
    }

    /// Reads the answers to one message.
    async fn answers(&mut self, flight: &Flight, torn: Option<&Torn>) -> Ending {
        let timeouts = self.seat.relay.settings.timeouts;
        let wait = |wait: Duration| if torn.is_some() { LAST_WORDS_TIMEOUT } else { wait };
        let job = &flight.job;
        let (mut refusal, mut spoiled) = (None, None);
        let steps = ENVELOPE.into_iter().filter(|_| !flight.is_open);
        for step in steps.filter(|step| *step != Step::Reset || flight.has_reset) {
            let reply = match self.connection.reply(wait(timeouts.command)).await {
                Ok(reply) => reply,
                Err(fault) => return Ending::Lost(refusal.unwrap_or_else(|| lost(step.name(), &fault, torn, job))),
            };
            if reply.is_done() {
                continue;
            }
            let is_untouched = refusal.is_none();
            let (is_closing, is_usable) = (reply.is_closing(), goes_on(&reply));
            if step == Step::Reset && is_usable {
                // The next command tells whether that matters. If it does, the message is not at fault.
                spoiled = Some(later(Refusal::ProtocolError, &reply.text()));
                continue;
            }
            let delivery = refusal.or(spoiled.take()).unwrap_or_else(|| refused(self.seat, &reply, step.reason(), job));
            if is_closing {
                return Ending::Closed { delivery, is_untouched };
            }
            if !is_usable {
                let delivery = if job.at_stake && is_untouched { doubt(&reply.text(), job) } else { delivery };
                return Ending::Lost(delivery);
            }
            refusal = Some(delivery);
        }
        let Some(delivery) = refusal else { return self.chunk_answer(job, wait(timeouts.data), torn, spoiled).await };
        // Whatever is said about a chunk for nobody.
        self.is_dirty = true;
        match self.connection.reply(wait(timeouts.data)).await {
            Ok(reply) if reply.is_closing() => Ending::Closed { delivery, is_untouched: false },
            Ok(_) => Ending::Told(delivery),
            Err(_) => Ending::Lost(delivery),
        }
    }

    async fn chunk_answer(
        &mut self,
        job: &Job,
        wait: Duration,
        torn: Option<&Torn>,
        spoiled: Option<Delivery>,
    ) -> Ending {
        let reply = match self.connection.reply(wait).await {
            Ok(reply) => reply,
            Err(fault) => return Ending::Lost(lost("the content", &fault, torn, job)),
        };
        if reply.is_done() && job.at_stake {
            self.is_dirty = false;
            return Ending::Told(Delivery::Sent { receipt: super::detail_about(&reply.text(), job.addresses()) });
        }
        if !reply.is_passing() && !reply.is_final() {
            return Ending::Lost(doubt(&reply.text(), job));
        }
        self.is_dirty = true;
        let is_closing = reply.is_closing();
        let delivery = spoiled.unwrap_or_else(|| refused(self.seat, &reply, Refusal::DataRefused, job));
        if is_closing { Ending::Closed { delivery, is_untouched: false } } else { Ending::Told(delivery) }
    }
}

fn put_envelope(flight: &Flight, out: &mut Vec<u8>) {
    for step in ENVELOPE.into_iter().filter(|step| *step != Step::Reset || flight.has_reset) {
        step.put(&flight.job, out);
    }
}

fn lost(stage: &str, fault: &Fault, torn: Option<&Torn>, job: &Job) -> Delivery {
    match torn {
        _ if job.at_stake => doubt(&fault.text(), job),
        Some(torn) => broken("the content", &torn.fault),
        None => broken(stage, fault),
    }
}
