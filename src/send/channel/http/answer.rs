//! What an answer means, by the channel's rules and by its status.

use std::collections::BTreeMap;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value as Json};

use super::{
    super::{
        Delivery, Refusal, detail_about,
        exchange::{Answer, RETRY_AFTER_MAX},
    },
    request::Wrong,
};
use crate::{
    api::channel::HttpAnswer,
    rule::{JsonRule, JsonType, TooLong},
};

const INPUTS: [(&str, JsonType); 4] =
    [("status", JsonType::Number), ("headers", JsonType::Map), ("body", JsonType::Any), ("text", JsonType::Text)];

/// What a channel declares of answers.
#[derive(Debug)]
pub(super) struct Rules {
    sent: Option<JsonRule>,
    unregistered: Option<JsonRule>,
    refused: Option<JsonRule>,
    later: Option<JsonRule>,
    receipt: Option<JsonRule>,
    detail: Option<JsonRule>,
    retry_after: Option<JsonRule>,
}

impl Rules {
    /// # Errors
    /// All that is wrong with them.
    pub fn new(spec: &HttpAnswer) -> Result<Self, Vec<Wrong>> {
        let mut found = vec![];
        let mut rule = |name: &str, text: &Option<String>, is_condition: bool| {
            let text = text.as_ref()?;
            let checked =
                if is_condition { JsonRule::condition(text, &INPUTS) } else { JsonRule::value(text, &INPUTS) };
            let path = format!("answer.{name}");
            checked.map_err(|problem| found.extend(problem.all().into_iter().map(|p| Wrong::of_problem(&path, p)))).ok()
        };
        let rules = Self {
            sent: rule("sent", &spec.sent, true),
            unregistered: rule("unregistered", &spec.unregistered, true),
            refused: rule("refused", &spec.refused, true),
            later: rule("later", &spec.later, true),
            receipt: rule("receipt", &spec.receipt, false),
            detail: rule("detail", &spec.detail, false),
            retry_after: rule("retryAfter", &spec.retry_after, false),
        };
        if found.is_empty() { Ok(rules) } else { Err(found) }
    }

    /// What became of the message for `to`.
    pub fn judge(&self, answer: &Answer, to: &str, now: Timestamp) -> Delivery {
        let status = answer.status.as_u16();
        self.weigh(answer, to, now)
            .unwrap_or_else(|TooLong| Delivery::InDoubt { detail: format!("{status}, and {TooLong}") })
    }

    fn weigh(&self, answer: &Answer, to: &str, now: Timestamp) -> Result<Delivery, TooLong> {
        let inputs = inputs(answer);
        let status = answer.status;
        let holds = |rule: &Option<JsonRule>| rule.as_ref().map_or(Ok(false), |rule| rule.holds(&inputs));
        let value = |rule: &Option<JsonRule>| rule.as_ref().map_or(Ok(Json::Null), |rule| rule.evaluate(&inputs));
        let text = |value: &Json| match value {
            Json::String(text) => detail_about(text, [to, ""]),
            Json::Number(number) => number.to_string(),
            _ => String::new(),
        };
        let sent = || value(&self.receipt).map(|receipt| Delivery::Sent { receipt: text(&receipt) });
        if holds(&self.sent)? {
            return sent();
        }
        let why = format!("{} {}", status.as_u16(), text(&value(&self.detail)?));
        let why = detail_about(why.trim_end(), [to, ""]);
        let refused = |reason| Delivery::Refused { reason, detail: why.clone() };
        let said = value(&self.retry_after)?.as_f64().and_then(|s| SignedDuration::try_from_secs_f64(s).ok());
        let after = said.map(|wait| wait.clamp(SignedDuration::ZERO, RETRY_AFTER_MAX));
        let after = after.or_else(|| answer.retry_after(now));
        let later = |reason| Delivery::Later { reason, detail: why.clone(), after };
        if holds(&self.unregistered)? {
            // Where there is no address, none can be marked.
            return Ok(refused(if to.is_empty() { Refusal::RecipientRefused } else { Refusal::Unregistered }));
        }
        if holds(&self.refused)? {
            return Ok(refused(Refusal::DataRefused));
        }
        if holds(&self.later)? {
            let is_throttled = status == StatusCode::TOO_MANY_REQUESTS;
            return Ok(later(if is_throttled { Refusal::Throttled } else { Refusal::Unavailable }));
        }
        Ok(match status.as_u16() {
            200..300 if self.sent.is_none() => return sent(),
            401 | 403 => later(Refusal::AuthFailed),
            429 => later(Refusal::Throttled),
            502 | 504 => Delivery::InDoubt { detail: why },
            408 | 425 | 500.. => later(Refusal::Unavailable),
            400.. => refused(Refusal::DataRefused),
            300.. => later(Refusal::ProtocolError),
            // `sent` says what is taken, and this is not.
            _ => refused(Refusal::ProtocolError),
        })
    }
}

fn inputs(answer: &Answer) -> [Json; 4] {
    let mut headers = BTreeMap::<&str, String>::new();
    for (name, value) in &answer.headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        headers
            .entry(name.as_str())
            .and_modify(|known| {
                known.push_str(", ");
                known.push_str(&value);
            })
            .or_insert_with(|| value.into_owned());
    }
    let headers: Map<String, Json> = headers.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    [answer.status.as_u16().into(), headers.into(), answer.json(), text.into()]
}
