//! DATA, with PIPELINING where it is offered (RFC 2920).
//!
//! ```text
//! C: MAIL RCPT DATA                      S: 250 250 354
//! C: content 1 . MAIL RCPT DATA          S: 250 250 250 354
//! C: content 2 .                         S: 250
//! ```
//! The next envelope goes out behind the final dot, in the same write: one round trip for each message. DATA ends a group
//! of commands, so that no content goes out before its envelope was taken. A recipient that is refused while DATA is not
//! makes the server wait for content; it gets an empty one, which goes to nobody (RFC 2920, section 3.1).

use super::{
    broken,
    connection::Fault,
    content::put_stuffed,
    line::{Answer, Dead, Flight, LAST_WORDS_TIMEOUT, Line, Step, refused},
    relay::Job,
};
use crate::send::channel::{Delivery, Refusal};

const STEPS: [Step; 4] = [Step::Reset, Step::Mail, Step::Rcpt, Step::Data];

impl Line<'_> {
    pub async fn by_data(&mut self) -> Result<(), Dead> {
        while let Some(job) = self.first().await {
            self.out.clear();
            let mut flight = self.put_envelope(job);
            let wait = self.seat.relay.settings.timeouts.command;
            if let Err(torn) = self.connection.write(&self.out, &[], wait).await {
                let is_stale = matches!(torn.fault, Fault::Lost(_));
                self.lose(flight.job, broken("MAIL", &torn.fault), is_stale);
                return Err(Dead);
            }
            loop {
                let next = match self.envelope(&flight, &STEPS).await {
                    Answer::Taken => self.content(flight.job).await?,
                    Answer::Refused { delivery, wants_content } => {
                        self.end(flight.job, delivery);
                        self.go_on(wants_content).await?
                    }
                    Answer::Broken { delivery, is_stale } => {
                        self.lose(flight.job, delivery, is_stale);
                        return Err(Dead);
                    }
                };
                let Some(next) = next else { break };
                flight = next;
            }
        }
        Ok(())
    }

    fn put_envelope(&mut self, job: Job) -> Flight {
        let has_reset = std::mem::take(&mut self.is_dirty);
        if self.connection.extensions.pipelining {
            for step in STEPS.into_iter().filter(|step| *step != Step::Reset || has_reset) {
                step.put(&job, &mut self.out);
            }
        }
        Flight { job, has_reset, is_open: false }
    }

    /// Writes a message's content and, if there is another message, its envelope; and learns what became of the first.
    async fn content(&mut self, mut job: Job) -> Result<Option<Flight>, Dead> {
        let mut wait = self.seat.relay.settings.timeouts.data;
        self.out.clear();
        put_stuffed(&job.message.bytes, &mut self.out);
        let end = self.out.len();
        let next = self.more(1).map(|job| self.put_envelope(job));
        let written = self.connection.write(&self.out, &[end], wait).await;
        if let Err(torn) = &written {
            if torn.written < end {
                let delivery = self.last_words(&job, &torn.fault).await;
                self.end(job, delivery);
                return self.die(next);
            }
            // The answer may be there all the same.
            wait = LAST_WORDS_TIMEOUT;
        }
        job.at_stake = true;
        let (delivery, goes_on) = self.verdict(&job, wait).await;
        self.end(job, delivery);
        if goes_on && written.is_ok() { Ok(next) } else { self.die(next) }
    }

    /// The final dot is not out: whatever the server says now, it does not have the message.
    async fn last_words(&mut self, job: &Job, fault: &Fault) -> Delivery {
        if let (Fault::Lost(_), Ok(reply)) = (fault, self.connection.reply(LAST_WORDS_TIMEOUT).await)
            && (reply.is_passing() || reply.is_final())
        {
            return refused(self.seat, &reply, Refusal::DataRefused, job);
        }
        broken("the content", fault)
    }

    /// Ends a refused transaction and begins the next.
    async fn go_on(&mut self, wants_content: bool) -> Result<Option<Flight>, Dead> {
        let timeouts = self.seat.relay.settings.timeouts;
        self.is_dirty = !wants_content;
        self.out.clear();
        if wants_content {
            self.out.extend_from_slice(b".\r\n");
        }
        let next = self.more(0).map(|job| self.put_envelope(job));
        if self.connection.write(&self.out, &[], timeouts.command).await.is_err() {
            return self.die(next);
        }
        if wants_content {
            let goes_on = matches!(self.connection.reply(timeouts.data).await, Ok(reply) if !reply.is_closing());
            if !goes_on {
                return self.die(next);
            }
        }
        Ok(next)
    }

    fn die(&mut self, next: Option<Flight>) -> Result<Option<Flight>, Dead> {
        if let Some(flight) = next {
            self.leave_behind(flight);
        }
        Err(Dead)
    }
}
