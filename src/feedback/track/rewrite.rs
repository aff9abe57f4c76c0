//! Finds the links of a message. What is not surely one stays as it is.

/// The HTML with other links in its `<a href>` and `<area href>`; `other` gets a link without entities.
pub(super) fn html(html: &str, other: impl Fn(&str) -> Option<String>) -> String {
    let (mut out, mut rest) = (String::with_capacity(html.len() * 2), html);
    while let Some(at) = rest.find('<') {
        let (before, tag) = rest.split_at(at);
        out += before;
        if let Some(comment) = tag.strip_prefix("<!--") {
            let end = comment.find("-->").map_or(tag.len(), |end| 4 + end + 3);
            out += &tag[..end];
            rest = &tag[end..];
            continue;
        }
        let end = end_of_tag(tag);
        let (tag, behind) = tag.split_at(end);
        match is_link(tag).then(|| href(tag)).flatten() {
            Some((from, to)) => match other(&unescaped(&tag[from..to])) {
                Some(url) => out.extend([&tag[..from], &url, &tag[to..]]),
                None => out += tag,
            },
            None => out += tag,
        }
        rest = behind;
    }
    out + rest
}

/// Behind the `>` of a tag; those in quotes do not end it.
fn end_of_tag(tag: &str) -> usize {
    let mut quote = None;
    for (at, byte) in tag.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return at + 1,
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), _) if byte == open => quote = None,
            _ => {}
        }
    }
    tag.len()
}

fn is_link(tag: &str) -> bool {
    let name: String = tag.chars().skip(1).take_while(char::is_ascii_alphabetic).collect();
    ["a", "area"].iter().any(|link| name.eq_ignore_ascii_case(link))
}

/// Where the quoted value of `href` stands.
fn href(tag: &str) -> Option<(usize, usize)> {
    let bytes = tag.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        while at < bytes.len() && !bytes[at].is_ascii_whitespace() && bytes[at] != b'/' {
            at += 1;
        }
        while at < bytes.len() && (bytes[at].is_ascii_whitespace() || bytes[at] == b'/') {
            at += 1;
        }
        let begin = at;
        while at < bytes.len() && !bytes[at].is_ascii_whitespace() && !matches!(bytes[at], b'=' | b'>' | b'/') {
            at += 1;
        }
        let name = &bytes[begin..at];
        while at < bytes.len() && bytes[at].is_ascii_whitespace() {
            at += 1;
        }
        if bytes.get(at) != Some(&b'=') {
            if name.is_empty() {
                at += 1;
            }
            // The attribute has no value; the next one begins here.
            at = at.saturating_sub(1).max(begin);
            if at == begin && name.is_empty() {
                at += 1;
            }
            continue;
        }
        at += 1;
        while at < bytes.len() && bytes[at].is_ascii_whitespace() {
            at += 1;
        }
        let quote = *bytes.get(at)?;
        if !matches!(quote, b'"' | b'\'') {
            continue;
        }
        let from = at + 1;
        let to = from + bytes[from..].iter().position(|byte| *byte == quote)?;
        if name.eq_ignore_ascii_case(b"href") {
            return Some((from, to));
        }
        at = to + 1;
        // So that the loop's first step does not skip the next name.
        if bytes.get(at).is_some_and(|byte| !byte.is_ascii_whitespace() && *byte != b'/' && *byte != b'>') {
            at -= 1;
        }
    }
    None
}

/// The few entities that stand in links.
fn unescaped(text: &str) -> String {
    let entities = [
        ("&quot;", "\""),
        ("&#34;", "\""),
        ("&#39;", "'"),
        ("&#x2F;", "/"),
        ("&#x2f;", "/"),
        ("&#61;", "="),
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&#38;", "&"),
        ("&amp;", "&"),
    ];
    entities.iter().fold(text.trim().to_owned(), |text, (entity, plain)| text.replace(entity, plain))
}

/// The text with other links. A link ends where a sentence would.
pub(super) fn text(text: &str, other: impl Fn(&str) -> Option<String>) -> String {
    let (mut out, mut rest) = (String::with_capacity(text.len() * 2), text);
    while let Some(at) = ["https://", "http://"].iter().filter_map(|scheme| rest.find(scheme)).min() {
        let (before, behind) = rest.split_at(at);
        out += before;
        let end = behind.find(|c: char| c.is_whitespace() || "<>\"'`".contains(c)).unwrap_or(behind.len());
        let url = behind[..end].trim_end_matches(['.', ',', ';', ':', '!', '?', ']', '}']);
        // A bracket belongs to the link if it opens there.
        let url = if url.contains('(') { url } else { url.trim_end_matches(')').trim_end_matches(['.', ',']) };
        out += &other(url).unwrap_or_else(|| url.to_owned());
        rest = &behind[url.len()..];
        if url.is_empty() {
            break;
        }
    }
    out + rest
}

/// Where a picture can be put in.
pub(super) fn end_of_body(html: &str) -> usize {
    let lower = html.to_ascii_lowercase();
    lower.rfind("</body").or_else(|| lower.rfind("</html")).unwrap_or(html.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marked(url: &str) -> Option<String> {
        url.starts_with("https://").then(|| format!("[{url}]"))
    }

    #[test]
    fn links_of_html_are_found() {
        let of = |text: &str| html(text, marked);
        assert_eq!(of("<a href=\"https://a.b/?x=1&amp;y=2\">x</a>"), "<a href=\"[https://a.b/?x=1&y=2]\">x</a>");
        assert_eq!(of("<A class='c' HREF = 'https://a.b'>"), "<A class='c' HREF = '[https://a.b]'>");
        assert_eq!(of("<area alt=\"a>b\" href=\"https://a.b\"/>"), "<area alt=\"a>b\" href=\"[https://a.b]\"/>");
        assert_eq!(of("<a download href=\"https://a.b\">"), "<a download href=\"[https://a.b]\">");
        assert_eq!(of("<a id=x href=\"https://a.b\">"), "<a id=x href=\"[https://a.b]\">");
        for same in [
            "<img src=\"https://a.b\">",
            "<link href=\"https://a.b\">",
            "<a href=\"mailto:a@b.c\">",
            "<!-- <a href=\"https://a.b\"> -->",
            "<a title=\"href=https://a.b\">",
            "https://a.b",
            "<a href=https://a.b>",
            "<a",
            "<a href",
            "<a href=",
            "<",
            "<a href=\"https://a",
        ] {
            assert_eq!(of(same), same);
        }
    }

    #[test]
    fn links_of_text_end_where_they_end() {
        let of = |given: &str| text(given, marked);
        assert_eq!(of("See https://a.b/c."), "See [https://a.b/c].");
        assert_eq!(of("(https://a.b/c) <https://a.b>"), "([https://a.b/c]) <[https://a.b]>");
        assert_eq!(
            of("https://a.b/(c) http://a.b https://"),
            "[https://a.b/(c)] http://a.b [https://]".replace("[https://]", &of("https://"))
        );
        assert_eq!(of("nothing"), "nothing");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_is_not_changed_stays(given in "[<>a-zA-Z\"'=/ &;:.!-]{0,60}(https://a\\.b)?[<>a \"'=/]{0,20}") {
            prop_assert_eq!(html(&given, |_| None), given.clone());
            prop_assert_eq!(text(&given, |_| None), given.clone());
            html(&given, marked);
            text(&given, marked);
            end_of_body(&given);
        }
    }
}
