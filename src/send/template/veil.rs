//! Tags behind a veil: what reads MJML or HTML sees a short word in the place of each, and they come back afterwards.
//!
//! A tag may hold `<`, `&` and quotes, may stand between elements and in attributes, and what it prints is not known yet.

use std::{fmt::Write, ops::Range};

use super::{
    compose::{Composed, VEIL},
    tags::{self, Kind, Tag},
};

/// A text with a word for each of its tags.
pub(super) struct Veiled {
    pub text: String,
    tags: Vec<Tag>,
    /// Where each word stands.
    words: Vec<Range<usize>>,
}

/// Where a tag came to stand, and where it stood before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub at: usize,
    pub was: usize,
}

impl Veiled {
    pub fn of(composed: &Composed<'_>) -> Self {
        let source = &composed.text;
        let all = tags::tags(source);
        let (mut text, mut words) = (String::with_capacity(source.len()), Vec::with_capacity(all.len()));
        let mut from = 0;
        for (number, tag) in all.iter().enumerate() {
            text.push_str(&source[from..tag.range.start]);
            from = tag.range.end;
            let start = text.len();
            let _ = write!(text, "{}{number}{}", VEIL[0], VEIL[1]);
            words.push(start..text.len());
        }
        text.push_str(&source[from..]);
        Self { text, tags: all, words }
    }

    /// The place in the text before of a place in the veiled one.
    pub fn before(&self, span: Range<usize>) -> Range<usize> {
        let one = |at: usize| {
            let index = self.words.partition_point(|word| word.start <= at);
            let Some(last) = index.checked_sub(1) else { return at };
            let (word, tag) = (&self.words[last], &self.tags[last].range);
            if at < word.end { tag.start } else { tag.end + at - word.end }
        };
        let start = one(span.start);
        start..one(span.end).max(start)
    }

    /// Puts the tags back into what was made of the text.
    pub fn lifted(&self, made: &str, before: &str) -> (String, Vec<Mark>) {
        let (mut text, mut marks) = (String::with_capacity(made.len()), vec![]);
        let mut rest = made;
        while let Some(start) = rest.find(VEIL[0]) {
            text.push_str(&rest[..start]);
            let word = &rest[start + VEIL[0].len_utf8()..];
            let number = word.split(VEIL[1]).next().unwrap_or_default();
            if let Some(tag) = number.parse::<usize>().ok().and_then(|number| self.tags.get(number)) {
                marks.push(Mark { at: text.len(), was: tag.range.start });
                text.push_str(&before[tag.range.clone()]);
            }
            rest = word.get(number.len() + VEIL[1].len_utf8()..).unwrap_or_default();
        }
        text.push_str(rest);
        (text, marks)
    }

    /// The statements with which a line begins, without what stands between them, and the rest of it.
    pub fn mute_front<'l>(&self, line: &'l str) -> (String, &'l str) {
        let (mut front, mut rest) = (String::new(), line.trim_start());
        while let Some(word) = rest.strip_prefix(VEIL[0]) {
            let number = word.split(VEIL[1]).next().unwrap_or_default();
            let tag = number.parse::<usize>().ok().and_then(|number| self.tags.get(number));
            if !tag.is_some_and(|tag| matches!(tag.kind, Kind::Statement | Kind::Comment)) {
                break;
            }
            let length = VEIL[0].len_utf8() + number.len() + VEIL[1].len_utf8();
            front.push_str(rest.get(..length).unwrap_or_default());
            rest = rest.get(length..).unwrap_or_default().trim_start();
        }
        (front, rest)
    }
}
