//! The tags of a Jinja text: `{{ … }}`, `{% … %}`, `{# … #}`, and `{% raw %}` with all that it holds.
//!
//! minijinja has no tokens to show; MJML and HTML must be read without what stands between them.

use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `{{ … }}`: something is printed.
    Print,
    /// `{% … %}`
    Statement,
    Comment,
    /// `{% raw %} … {% endraw %}`
    Raw,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub kind: Kind,
    pub range: Range<usize>,
}

/// All tags in the order in which they stand; one that does not end is left to the parser.
pub(super) fn tags(text: &str) -> Vec<Tag> {
    let mut found = vec![];
    let mut at = 0;
    while let Some(start) = text[at..].find('{').map(|found| at + found) {
        let (kind, end) = match text.as_bytes().get(start + 1) {
            Some(b'{') => (Kind::Print, end_of(text, start + 2, "}}")),
            Some(b'%') => (Kind::Statement, end_of(text, start + 2, "%}")),
            Some(b'#') => (Kind::Comment, text[start..].find("#}").map(|end| start + end + 2)),
            _ => {
                at = start + 1;
                continue;
            }
        };
        let Some(end) = end else { return found };
        let (kind, end) = if kind == Kind::Statement && words(&text[start..end]) == "raw" {
            (Kind::Raw, end_of_raw(text, end).unwrap_or(text.len()))
        } else {
            (kind, end)
        };
        found.push(Tag { kind, range: start..end });
        at = end;
    }
    found
}

/// What stands between the signs of a tag.
pub(super) fn words(tag: &str) -> &str {
    let inner = tag.get(2..tag.len().saturating_sub(2)).unwrap_or_default();
    inner.trim_start_matches(['-', '+']).trim_end_matches(['-', '+']).trim()
}

/// Behind the end of a tag; one that stands in a text is none.
fn end_of(text: &str, from: usize, end: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (index, c) in text[from..].char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '"' | '\'') => quote = Some(c),
            None if text[from + index..].starts_with(end) => return Some(from + index + end.len()),
            None => {}
        }
    }
    None
}

fn end_of_raw(text: &str, from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        let start = at + text[at..].find("{%")?;
        let end = start + text[start..].find("%}")? + 2;
        if words(&text[start..end]) == "endraw" {
            return Some(end);
        }
        at = start + 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<(Kind, &str)> {
        tags(text).into_iter().map(|tag| (tag.kind, &text[tag.range])).collect()
    }

    #[test]
    fn tags_end_where_they_end() {
        assert_eq!(
            shown(r#"a{{ b["}}"] }}{c}{%- if x == '%}\'' -%}{# {{ #}{% raw %}{{ {% x %}{%- endraw %}é"#),
            [
                (Kind::Print, r#"{{ b["}}"] }}"#),
                (Kind::Statement, r"{%- if x == '%}\'' -%}"),
                (Kind::Comment, "{# {{ #}"),
                (Kind::Raw, "{% raw %}{{ {% x %}{%- endraw %}"),
            ]
        );
        assert_eq!(shown("{{ a }} {{ b"), [(Kind::Print, "{{ a }}")]);
        assert_eq!(shown("{"), []);
        assert_eq!((words("{%- include \"a\" -%}"), words("{{}}"), words("{")), ("include \"a\"", "", ""));
    }
}
