//! Every rule that a manifest is checked by, under the name that people silence it by. A name is never given again.

use crate::source::manifest::Severity;

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    pub id: &'static str,
    pub severity: Severity,
    /// What breaks it, in half a sentence.
    pub about: &'static str,
}

const fn error(id: &'static str, about: &'static str) -> Rule {
    Rule { id, severity: Severity::Error, about }
}

const fn warning(id: &'static str, about: &'static str) -> Rule {
    Rule { id, severity: Severity::Warning, about }
}

/// Errors first, then warnings, each by name. `docs/review.md` shows the same table.
pub const RULES: &[Rule] = &[
    error("ambiguous-yaml", "a word or a number that kubectl reads otherwise than it looks"),
    error("circle", "steps, audiences or conditions that build on each other in turn"),
    error("declared-twice", "two objects of one kind and name"),
    error("invalid-address", "an address of mail, or a URL, that is none or leads elsewhere"),
    error("invalid-cron", "a text that is no cron expression"),
    error("invalid-metadata", "a name, label or annotation that Kubernetes does not take"),
    error("invalid-rule", "a rule that cannot be read, or that compares what cannot be compared"),
    error("invalid-spec", "parts of a spec that do not fit together"),
    error("invalid-template", "a template that cannot be read"),
    error("invalid-yaml", "a file that is not YAML"),
    error("missing-field", "a field that must be there"),
    error("missing-reference", "a name of an object that is not there, or of another dataset"),
    error("never-fires", "a cron that never comes"),
    error("schema-rule", "fields that exclude or need each other"),
    error("unknown-field", "a field that its kind does not have"),
    error("unknown-kind", "a kind or version that does not exist"),
    error("unknown-name", "a name that the dataset or the campaign does not have"),
    error("unknown-time-zone", "a time zone that does not exist"),
    error("unknown-variable", "a variable that the template cannot read where it is used"),
    error("unread-output", "a step's output that nobody reads"),
    error("unreadable-file", "a file or folder that cannot be read"),
    error("wrong-type", "a value of another type"),
    error("wrong-value", "a value outside its limits"),
    warning("always-true", "alternatives of which one always holds: `x != \"a\" || x != \"b\"`"),
    warning("consent-cannot-return", "consent without `changedAt`: after an opt-out the files cannot opt in again"),
    warning("constant-condition", "a condition that is the same for every row"),
    warning("day-of-month-or-week", "a cron with a day of the month and one of the week: it comes on either"),
    warning("dkim-of-another-domain", "a DKIM domain that does not vouch for the sender's"),
    warning("frequent-starts", "a campaign that starts more often than once an hour"),
    warning("immediate-without-end", "`immediate` without `notAfter`: refused at live delivery"),
    warning("includes-missing", "a negation that lets in the rows without a value"),
    warning("leap-day", "a cron that comes on February 29 only"),
    warning("locale-without-persona", "a variant of a template that no persona gets"),
    warning("needless-ignore", "an ignore that silences nothing, or names no warning"),
    warning("never-true", "conditions that contradict each other"),
    warning("no-sender-address", "Marketing mail without the sender's postal address"),
    warning("no-source", "an entity without a source: its table stays empty"),
    warning("no-unsubscribe-link", "Marketing mail without a link to unsubscribe"),
    warning("opted-in-by-default", "a Marketing topic that people are in unless they say otherwise"),
    warning("past-start", "an `at` or `notAfter` that is past: the campaign does not start any more"),
    warning("same-people-again", "a campaign that comes again and again for the same people"),
    warning("secret-in-manifests", "a Secret with its values"),
    warning("skipped-hour", "a start in the hour that daylight saving skips"),
    warning("skips-short-months", "a cron on a day that not every month has"),
    warning("unencrypted", "a password sent over a connection that may be in clear"),
    warning("unescaped-value", "a value that is put into HTML as it is"),
    warning("unfilled-audience", "a saved audience that no campaign fills"),
    warning("unlikely-locale", "a variant for a locale that is none"),
    warning("unreachable-branch", "a branch behind one that takes every row"),
    warning("unread-enrichment", "an `enrich` that no template reads"),
    warning("unused-audience", "an audience that nothing reads or exports"),
    warning("unused-locale", "variants of a template for people whose language nobody knows"),
    warning("unused-parameter", "a parameter that the rule does not read"),
    warning("unused-template", "a template or channel that no campaign uses"),
    warning("wrong-persona", "a persona with a name or a value that the dataset does not have"),
];

/// The rule of a name.
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_in_order_and_the_docs_have_them_all() {
        let docs = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/review.md")).unwrap();
        for severity in [Severity::Error, Severity::Warning] {
            let names: Vec<&str> = RULES.iter().filter(|r| r.severity == severity).map(|r| r.id).collect();
            assert!(names.is_sorted() && names.windows(2).all(|two| two[0] != two[1]), "{names:?}");
        }
        for rule in RULES {
            let row = format!("| `{}` | {} |", rule.id, rule.about.replace('|', "\\|"));
            assert!(docs.contains(&row), "docs/review.md lacks {row}");
        }
    }
}
