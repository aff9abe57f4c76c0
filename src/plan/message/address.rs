//! Where a message goes, as SQL: the address in its row, and whether it is one.

use sea_query::Expr;

use super::MessagePlan;
use crate::{
    api::medium::Medium,
    rule::{Dialect, Query},
    send::{address, mime},
    store::{
        consent::is_opted_out,
        suppression::{Asked, is_suppressed},
    },
};

impl MessagePlan {
    /// The address as it is sent to; missing where the row has none.
    pub(super) fn address(&self, query: &mut Query<'_>) -> Expr {
        let Some(to) = &self.to else { return self.lines(query) };
        let text = query.path(to);
        match self.medium {
            Medium::Sms => {
                let without = |text: String, mark: &char| format!("replace({text}, '{mark}', '')");
                query.custom(&address::BETWEEN_DIGITS.iter().fold("?".to_owned(), without), [text])
            }
            _ => text,
        }
    }

    /// The lines of an address, the ones that are missing left out; missing where one must be there.
    fn lines(&self, query: &mut Query<'_>) -> Expr {
        if self.lines.is_empty() {
            return query.custom("CAST(NULL AS TEXT)", []);
        }
        let (mut lacks, mut joined, mut parts) = (vec![], vec![], vec![]);
        for line in self.lines.iter().filter(|line| line.is_required) {
            lacks.push("trim(coalesce(?, '')) = ''");
            parts.push(query.path(&line.path));
        }
        for line in &self.lines {
            joined.push("CASE WHEN trim(coalesce(?, '')) = '' THEN '' ELSE ? || trim(?) END");
            let text = query.path(&line.path);
            parts.extend([text.clone(), Expr::val("\n"), text]);
        }
        let text = format!("substr({}, 2)", joined.join(" || "));
        match lacks.is_empty() {
            true => query.custom(&text, parts),
            false => query.custom(&format!("CASE WHEN NOT ({}) THEN {text} END", lacks.join(" OR ")), parts),
        }
    }

    /// When a row has an address that somebody withdrew under, none, none that a message can go to, or a suppressed one: cases,
    /// and their parts.
    pub(super) fn address_cases(&self, query: &mut Query<'_>, asked: Asked<'_>) -> (String, Vec<Expr>) {
        if self.to.is_none() && self.lines.is_empty() {
            return (String::new(), vec![]);
        }
        let text = self.address(query);
        let address = query.custom("trim(coalesce(?, ''))", [text]);
        let is_empty = query.custom("? = ''", [address.clone()]);
        let is_suppressed = is_suppressed(query, asked, address.clone());
        let of = (asked.namespace, asked.medium);
        let is_opted_out = asked.objection.map(|objection| is_opted_out(query, of, objection, address.clone()));
        let is_address = match self.medium {
            Medium::Email => mail(query, address),
            Medium::Sms => matches(query, address, address::PHONE),
            Medium::Push | Medium::Postal | Medium::Http => {
                let most = address::BYTES_MAX;
                query.custom(&format!("length(?) <= {most}"), [address])
            }
        };
        let cases = "WHEN ? THEN 'NoAddress' WHEN NOT (?) THEN 'MalformedAddress' WHEN ? THEN 'Suppressed'";
        let Some(is_opted_out) = is_opted_out else {
            return (cases.to_owned(), vec![is_empty, is_address, is_suppressed]);
        };
        let cases = format!("WHEN ? THEN 'NoConsent' {cases}");
        (cases, vec![is_opted_out, is_empty, is_address, is_suppressed])
    }
}

fn matches(query: &Query<'_>, address: Expr, pattern: &str) -> Expr {
    let template = match query.dialect() {
        Dialect::Postgres => "? ~ ?",
        Dialect::Sqlite => "campanile_matches(?, ?)",
    };
    query.custom(template, [address, Expr::val(pattern)])
}

fn mail(query: &Query<'_>, address: Expr) -> Expr {
    let matches = matches(query, address.clone(), mime::ADDRESS);
    let at = match query.dialect() {
        Dialect::Postgres => "strpos(?, '@')",
        Dialect::Sqlite => "instr(?, '@')",
    };
    let at = query.custom(at, [address.clone()]);
    let (local, all) = (mime::LOCAL_BYTES_MAX + 1, mime::ADDRESS_BYTES_MAX);
    query.custom(&format!("? AND ? <= {local} AND length(?) <= {all}"), [matches, at, address])
}
