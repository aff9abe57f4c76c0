//! `directMail.file`: no letter leaves by itself. Lanes collect them, and a file is made of all (see [`crate::send::mailing`]).

use async_trait::async_trait;
use tokio::sync::mpsc::UnboundedSender;

use super::{Channel, Delivery, Done, Envelope, Refusal};

/// The way out of letters that leave together.
pub struct Together;

#[async_trait]
impl Channel for Together {
    /// Somebody means one letter, such as a proof.
    async fn submit(&self, tag: u64, _: Envelope, done: &UnboundedSender<Done>) {
        let detail = "letters leave together, in the file of a run".to_owned();
        let delivery = Delivery::Refused { reason: Refusal::ProtocolError, detail };
        // Nobody may be left to hear of it.
        let _ = done.send(Done { tag, delivery });
    }

    fn may_doubt(&self) -> bool {
        false
    }

    fn connections(&self) -> usize {
        1
    }
}
