//! What holds a message back at a channel step: asked as planning and sending ask it, in their order.

use sea_query::{Alias, Expr, ExprTrait, Query as Statement};

use super::{Row, RowView, Walker};
use crate::{
    api::medium::Medium,
    plan::message::{ERASED, MessagePlan, erasing},
    rule::Path,
    run::engine::once_since,
    send::address,
    store::{
        self,
        campaign::Origin,
        consent::State,
        keyed::{Keyed, Label},
    },
};

/// A reason that a run counts, and what is behind it.
type Held = Option<(&'static str, String)>;

impl Walker<'_> {
    /// The messages about rows that come to the step.
    pub(super) async fn messages(
        &self,
        step: &str,
        message: &MessagePlan,
        rows: Vec<Row>,
    ) -> store::Result<Vec<RowView>> {
        if rows.is_empty() {
            return Ok(vec![]);
        }
        let known = self.sampler.read_each(self.store, step, self.given(&message.entity, &rows)?).await?;
        let planned = self.planned(message, &rows).await?;
        let mut views = vec![];
        for row in &rows {
            let mut addresses: Vec<_> =
                known.iter().filter(|about| about.item == row.item).map(|about| about.address.as_deref()).collect();
            let (profile, reason) = planned
                .iter()
                .find(|(item, ..)| *item == row.item)
                .map_or((None, None), |(_, profile, reason)| (profile.as_deref(), reason.as_deref()));
            let whole = match reason {
                Some("UnmatchedProfile") => {
                    let profile = &self.bundle().dataset.profile.entity;
                    Some(("UnmatchedProfile", format!("no {profile} is behind it")))
                }
                Some(_) => Some(("Duplicate", "another row of the same person comes before it".to_owned())),
                None => self.held_whole(step, message, row, profile).await?,
            };
            // What holds her back whatever her device is, is said once.
            addresses.truncate(if whole.is_some() { 1 } else { usize::MAX });
            let called = self.called(&message.entity, &row.item);
            if addresses.is_empty() {
                addresses.push(None);
            }
            for (index, address) in addresses.iter().enumerate() {
                let held = match whole.clone() {
                    Some(held) => Some(held),
                    None => self.held(message, profile, *address).await?,
                };
                let (reason, why) = held.map_or((None, None), |(reason, why)| (Some(reason.to_owned()), Some(why)));
                let row = match addresses.len() {
                    1 => called.clone(),
                    _ => format!("{called}, device {}", index + 1),
                };
                views.push(RowView { row, is_in: reason.is_none(), outputs: vec![], rules: vec![], reason, why });
            }
        }
        Ok(views)
    }

    /// What holds a person back whatever her address is, of what planning lets pass.
    async fn held_whole(
        &self,
        step: &str,
        message: &MessagePlan,
        row: &Row,
        profile: Option<&str>,
    ) -> store::Result<Held> {
        if let Some(held) = self.sent_before(step, message, row).await? {
            return Ok(Some(held));
        }
        if let Some(held) = self.erased(profile).await? {
            return Ok(Some(held));
        }
        self.without_consent(message, profile).await
    }

    /// What holds her message back at one of her addresses: the first of it, as a run asks.
    async fn held(&self, message: &MessagePlan, profile: Option<&str>, address: Option<&str>) -> store::Result<Held> {
        if let Some(held) = self.opted_out(message, profile, address.unwrap_or_default()).await? {
            return Ok(Some(held));
        }
        match self.without_address(message, address) {
            Some(held) => Ok(Some(held)),
            None => self.suppressed(message, address.unwrap_or_default()).await,
        }
    }

    /// Who was erased on request is met only where her row is another system's.
    async fn erased(&self, profile: Option<&str>) -> store::Result<Held> {
        let Some((profile, secret)) = profile.zip(self.store.known_secret().await?) else { return Ok(None) };
        let (of, namespace) = (erasing(self.bundle()), self.bundle().namespace.as_str());
        let hash = Keyed::new(&secret, Label::Key).hash(profile);
        let is_erased = self.store.is_erased((namespace, of.dataset), of.entity, &hash).await?;
        Ok(is_erased.then(|| (ERASED, "erased on request".to_owned())))
    }

    /// Who is behind each row, and what planning excludes of them. Ranks are of all rows of the step.
    async fn planned(
        &self,
        message: &MessagePlan,
        rows: &[Row],
    ) -> store::Result<Vec<(String, Option<String>, Option<String>)>> {
        let profile = &*self.bundle().dataset.profile.entity;
        let set = self.sets.get(&message.input).cloned().unwrap_or_default();
        let Some(entries) = message.entries(self.schema(), profile, self.plan().dialect, set) else {
            return Ok(vec![]);
        };
        let mut select = Statement::select();
        for name in ["item", "profile", "reason"] {
            select.column((Alias::new("e"), Alias::new(name)));
        }
        select.from_subquery(entries, Alias::new("e"));
        let item = Expr::col((Alias::new("e"), Alias::new("item")));
        select.and_where(item.is_in(rows.iter().map(|row| row.item.clone())));
        self.reasons(&select).await
    }

    async fn sent_before(&self, step: &str, message: &MessagePlan, row: &Row) -> store::Result<Held> {
        let bundle = self.bundle();
        let origin = self.run.as_ref().map_or_else(|| Origin::expected(&bundle.campaign), |run| run.origin);
        let Some(since) = once_since(message.once, bundle, origin, self.clock) else { return Ok(None) };
        let fence = self.store.fenced([&bundle.namespace, &bundle.name, step], &row.item, since).await?;
        // A run is not held back by itself.
        let fence = fence.filter(|fence| self.run.as_ref().is_none_or(|run| run.no != fence.run_no));
        Ok(fence.map(|fence| {
            let run = fence.run.map_or_else(|| "an earlier run".to_owned(), |run| format!("run {run}"));
            ("AlreadySent", format!("{run} sent it at {:.0}", fence.at))
        }))
    }

    async fn without_consent(&self, message: &MessagePlan, profile: Option<&str>) -> store::Result<Held> {
        let Some((profile, topic)) = profile.zip(message.asks(self.bundle())) else { return Ok(None) };
        Ok(match self.store.newest_consent(topic, profile).await? {
            Some(consent) if consent.state == State::Granted => None,
            Some(consent) => {
                let (topic, source, at) = (&message.topic, &consent.source, consent.at);
                let what = match consent.state {
                    State::Pending => format!("has not confirmed {topic}, asked for"),
                    State::Unknown => format!("consent to {topic} is not known any more, since"),
                    State::Granted | State::Withdrawn => format!("opted out of {topic}"),
                };
                Some(("NoConsent", format!("{what} at {at:.0} ({source})")))
            }
            None if message.is_in_by_default => None,
            None => {
                let topic = &message.topic;
                Some(("NoConsent", format!("nothing is recorded for {topic}, and its default is OptedOut")))
            }
        })
    }

    /// What somebody withdrew under the address, such as by `STOP`.
    async fn opted_out(&self, message: &MessagePlan, profile: Option<&str>, address: &str) -> store::Result<Held> {
        let Some((profile, hash)) = profile.zip(self.store.address_hash(address).await?) else { return Ok(None) };
        let asked = message.asked(self.bundle(), self.clock);
        let Some(objection) = asked.objection else { return Ok(None) };
        let held = self.store.opted_out((asked.namespace, asked.medium), objection, (profile, &hash)).await?;
        Ok(held.map(|held| ("NoConsent", format!("withdrawn under the address at {:.0} ({})", held.at, held.source))))
    }

    async fn suppressed(&self, message: &MessagePlan, address: &str) -> store::Result<Held> {
        let hash = self.store.address_hash(address).await?;
        let Some(hash) = hash else { return Ok(None) };
        let hold = self.store.suppression(message.asked(self.bundle(), self.clock), &hash).await?;
        Ok(hold.map(|hold| {
            let scope = if hold.is_whole_store { "in the whole store" } else { "in this namespace" };
            let until = hold.until.map_or(String::new(), |until| format!(" until {until:.0}"));
            ("Suppressed", format!("{scope} since {:.0}{until} ({})", hold.since, hold.cause))
        }))
    }

    fn without_address(&self, message: &MessagePlan, address: Option<&str>) -> Held {
        let name = |path: &Path| format!("{}.{}", path.entity, path.field.as_deref().unwrap_or_default());
        let lines: Vec<String> = message.lines.iter().filter(|l| l.is_required).map(|l| name(&l.path)).collect();
        let place = match &message.to {
            Some(to) => name(to),
            None if message.lines.is_empty() => return None,
            None => lines.join(" or "),
        };
        match address.map_or("", |address| address.trim_matches(' ')) {
            "" => Some(("NoAddress", format!("{place} is missing"))),
            text if !address::is_fit(message.medium, text) => {
                let what = match message.medium {
                    Medium::Sms => "number as E.164 writes it",
                    Medium::Push => "token of a device",
                    _ => "address",
                };
                Some(("MalformedAddress", format!("{place} is no {what}")))
            }
            _ => None,
        }
    }
}
