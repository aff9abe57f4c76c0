//! Delivery status notifications (RFC 3464): groups of fields, the first about the mail, one for each recipient.

use super::{
    What,
    class::{Class, Status},
};

/// Recipients of one report that are looked at; a message of ours has one.
const GROUPS_MAX: usize = 32;

/// What a status says, with the words that stand beside it.
pub(super) fn read(status: &str, words: &str) -> (What, Option<String>) {
    let groups = groups(status);
    let of = |group: &Group| judge(group, words);
    // A failure weighs more than what became of others.
    let mut told: Vec<(What, Option<String>)> = groups.iter().filter(|g| g.get("action").is_some()).map(of).collect();
    let weight = |what: &What| match what {
        What::Bounced { .. } => 0,
        What::Delivered => 1,
        What::Delayed => 2,
        _ => 3,
    };
    told.sort_by_key(|(what, _)| weight(what));
    told.into_iter().next().unwrap_or((What::Unknown, None))
}

fn judge(group: &Group, words: &str) -> (What, Option<String>) {
    let recipient = group.get("original-recipient").or_else(|| group.get("final-recipient")).and_then(address);
    let action = group.get("action").unwrap_or_default().to_ascii_lowercase();
    let diagnostic = group.get("diagnostic-code").unwrap_or_default();
    let what = match action.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default() {
        "failed" => {
            let own = group.get("status").and_then(Status::parse);
            // The answer of the last server is nearer to the cause than the code of who reports it.
            let answered = Status::find(diagnostic).filter(|status| status.class != 2);
            let status = match (own, answered) {
                (Some(own), Some(answered)) if own.subject == 0 || own.class == answered.class => Some(answered),
                (own, answered) => own.or(answered),
            };
            let mut class = Class::of(status, diagnostic);
            if class == Class::Undetermined && own.or(answered).is_none_or(Status::is_permanent) {
                class = Class::of(status, words);
            }
            What::Bounced { class, status }
        }
        "delayed" => What::Delayed,
        "delivered" => What::Delivered,
        // Handed on, and nobody says what then.
        "relayed" | "expanded" => What::Noted,
        _ => What::Unknown,
    };
    (what, recipient)
}

/// `rfc822;ann@example.com`, and what is left of it where a system forgets the type.
fn address(field: &str) -> Option<String> {
    let text = field.split_once(';').map_or(field, |(_, text)| text).trim();
    let text = text.trim_matches(['<', '>', '"']).trim();
    (text.contains('@') && text.len() <= 320 && !text.contains(char::is_whitespace)).then(|| text.to_owned())
}

struct Group(Vec<(String, String)>);

impl Group {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

fn groups(text: &str) -> Vec<Group> {
    let mut groups = vec![Group(vec![])];
    for line in text.lines() {
        let line = line.trim_end();
        if line.is_empty() {
            if groups.len() >= GROUPS_MAX {
                break;
            }
            groups.push(Group(vec![]));
            continue;
        }
        let has_room = groups.len() < GROUPS_MAX;
        let Some(Group(fields)) = groups.last_mut() else { break };
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            // Some systems leave out the empty line between the groups.
            let name = name.trim().to_ascii_lowercase();
            let begins = matches!(name.as_str(), "final-recipient" | "original-recipient");
            let is_second = fields.iter().any(|(known, _)| *known == name) && begins;
            let field = (name, value.trim().to_owned());
            if is_second && has_room {
                groups.push(Group(vec![field]));
            } else {
                fields.push(field);
            }
        }
    }
    groups
}
