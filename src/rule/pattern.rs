//! Patterns of `matches`: the subset that PostgreSQL and Rust's `regex` read alike.
//!
//! A pattern is found anywhere in the text unless anchors hold it. There are: literal characters, `.` (any but a line
//! break), classes (`[a-z]`, `[^0-9]`, `\d \w \s` and their opposites, ASCII as in RE2), the anchors `^` and `$`, groups,
//! alternation and the repeats `? * + {m} {m,} {m,n}`. Everything else is refused: back references, lookaround, flags,
//! named groups, lazy repeats, `\b`, `\p` and POSIX classes.

use std::{iter::Peekable, ops::RangeInclusive, str::CharIndices};

/// A longer pattern is a list of values in disguise.
const PATTERN_BYTES_MAX: usize = 512;
/// PostgreSQL counts no further.
const REPEATS_MAX: u32 = 255;
/// Characters after all repeats are written out; both engines refuse far larger ones.
const STATES_MAX: u32 = 4_096;
const DEPTH_MAX: usize = 16;

/// What is wrong, and at which bytes of the pattern.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    pub message: String,
    pub at: usize,
}

/// Rewrites a pattern into the form that both engines read alike.
pub fn canonical(pattern: &str) -> Result<String, Wrong> {
    if pattern.is_empty() || pattern.len() > PATTERN_BYTES_MAX {
        return Err(Wrong { message: format!("a pattern has 1 to {PATTERN_BYTES_MAX} bytes"), at: 0 });
    }
    let mut reader = Reader { chars: pattern.char_indices().peekable(), len: pattern.len(), out: String::new() };
    let states = reader.alternatives(0)?;
    match reader.chars.next() {
        Some((at, _)) => Err(Wrong { message: "the pattern closes a group that it does not open".to_owned(), at }),
        None if states > STATES_MAX => Err(Wrong { message: "the pattern repeats too much".to_owned(), at: 0 }),
        None => Ok(reader.out),
    }
}

struct Reader<'p> {
    chars: Peekable<CharIndices<'p>>,
    len: usize,
    out: String,
}

impl Reader<'_> {
    fn at(&mut self) -> usize {
        self.chars.peek().map_or(self.len, |(at, _)| *at)
    }

    fn wrong<T>(&mut self, message: impl Into<String>) -> Result<T, Wrong> {
        Err(Wrong { message: message.into(), at: self.at() })
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    fn take(&mut self, wanted: char) -> bool {
        self.chars.next_if(|(_, c)| *c == wanted).is_some()
    }

    /// How many characters the pattern has when its repeats are written out.
    fn alternatives(&mut self, depth: usize) -> Result<u32, Wrong> {
        if depth > DEPTH_MAX {
            return self.wrong(format!("groups of a pattern nest at most {DEPTH_MAX} deep"));
        }
        let mut states = self.sequence(depth)?;
        while self.take('|') {
            self.out.push('|');
            states = states.saturating_add(self.sequence(depth)?);
        }
        Ok(states)
    }

    fn sequence(&mut self, depth: usize) -> Result<u32, Wrong> {
        let (mut states, mut is_empty) = (0_u32, true);
        while let Some(c) = self.peek().filter(|c| !matches!(c, '|' | ')')) {
            states = states.saturating_add(self.piece(c, depth)?);
            is_empty = false;
        }
        if is_empty { self.wrong("a part of the pattern is empty") } else { Ok(states) }
    }

    fn piece(&mut self, c: char, depth: usize) -> Result<u32, Wrong> {
        if matches!(c, '?' | '*' | '+' | '{') {
            return self.wrong(format!("nothing stands before `{c}`"));
        }
        let at = self.at();
        self.chars.next();
        let states = match c {
            '^' | '$' => {
                self.out.push(c);
                if matches!(self.peek(), Some('?' | '*' | '+' | '{')) {
                    return self.wrong("an anchor is not repeated");
                }
                return Ok(1);
            }
            '(' => {
                if self.peek() == Some('?') {
                    self.chars.next();
                    if !self.take(':') {
                        return self.wrong("`matches` has no flags, names or lookaround");
                    }
                }
                self.out.push_str("(?:");
                let states = self.alternatives(depth + 1)?;
                if !self.take(')') {
                    return Err(Wrong { message: "a group of the pattern is not closed".to_owned(), at });
                }
                self.out.push(')');
                states
            }
            '[' => {
                self.class(at)?;
                1
            }
            '.' => {
                self.out.push_str("[^\\n]");
                1
            }
            '\\' => {
                let class = self.escape()?;
                match class {
                    Escape::Char(c) => self.literal(c),
                    Escape::Class(is_negated, ranges) => self.put_class(is_negated, &ranges),
                }
                1
            }
            c => {
                self.literal(c);
                1
            }
        };
        self.repeat(states)
    }

    fn repeat(&mut self, states: u32) -> Result<u32, Wrong> {
        let times = match self.peek() {
            Some(c @ ('?' | '*' | '+')) => {
                self.chars.next();
                self.out.push(c);
                1
            }
            Some('{') => {
                self.chars.next();
                let least = self.number()?;
                let most = if self.take(',') {
                    if self.peek() == Some('}') { None } else { Some(self.number()?) }
                } else {
                    Some(least)
                };
                if !self.take('}') {
                    return self.wrong("a repeat is written {2}, {2,} or {2,5}");
                }
                if most.is_some_and(|most| most < least) {
                    return self.wrong("a repeat begins with the smaller number");
                }
                match most {
                    Some(most) if most == least => self.out.push_str(&format!("{{{least}}}")),
                    Some(most) => self.out.push_str(&format!("{{{least},{most}}}")),
                    None => self.out.push_str(&format!("{{{least},}}")),
                }
                most.unwrap_or(least).max(1)
            }
            _ => return Ok(states),
        };
        if matches!(self.peek(), Some('?' | '*' | '+' | '{')) {
            return self.wrong("`matches` has no lazy or repeated repeats");
        }
        Ok(states.saturating_mul(times))
    }

    fn number(&mut self) -> Result<u32, Wrong> {
        let mut digits = String::new();
        while let Some((_, c)) = self.chars.next_if(|(_, c)| c.is_ascii_digit()) {
            digits.push(c);
        }
        match digits.parse() {
            Ok(n) if n <= REPEATS_MAX => Ok(n),
            Ok(_) => self.wrong(format!("a repeat counts to {REPEATS_MAX} at most")),
            Err(_) => self.wrong("a repeat is written {2}, {2,} or {2,5}"),
        }
    }

    fn escape(&mut self) -> Result<Escape, Wrong> {
        let Some((at, c)) = self.chars.next() else { return self.wrong("the pattern ends in a `\\`") };
        let class = |is_negated, ranges: &[RangeInclusive<char>]| Ok(Escape::Class(is_negated, ranges.to_vec()));
        match c {
            'd' | 'D' => class(c == 'D', &['0'..='9']),
            'w' | 'W' => class(c == 'W', &['0'..='9', 'A'..='Z', '_'..='_', 'a'..='z']),
            's' | 'S' => class(c == 'S', &['\t'..='\n', '\x0c'..='\r', ' '..=' ']),
            'n' => Ok(Escape::Char('\n')),
            't' => Ok(Escape::Char('\t')),
            'r' => Ok(Escape::Char('\r')),
            c if c.is_ascii_punctuation() => Ok(Escape::Char(c)),
            c => Err(Wrong { message: format!("`matches` has no `\\{c}`"), at }),
        }
    }

    fn class(&mut self, start: usize) -> Result<(), Wrong> {
        let is_negated = self.take('^');
        let mut ranges: Vec<RangeInclusive<char>> = vec![];
        loop {
            let Some((at, c)) = self.chars.next() else {
                return Err(Wrong { message: "a class of the pattern is not closed".to_owned(), at: start });
            };
            let first = match c {
                ']' if ranges.is_empty() => {
                    return Err(Wrong { message: "a class of the pattern is empty".to_owned(), at });
                }
                ']' => break,
                '[' => return Err(Wrong { message: "write `\\[` for a bracket inside a class".to_owned(), at }),
                '&' | '~' if self.peek() == Some(c) => {
                    return Err(Wrong { message: "classes are not combined".to_owned(), at });
                }
                '\\' => match self.escape()? {
                    Escape::Char(c) => c,
                    Escape::Class(false, known) => {
                        ranges.extend(known);
                        continue;
                    }
                    Escape::Class(true, _) => {
                        return Err(Wrong { message: "write the class without `\\D`, `\\W` or `\\S`".to_owned(), at });
                    }
                },
                c => c,
            };
            let is_range = self.peek() == Some('-') && {
                let mut ahead = self.chars.clone();
                ahead.next();
                ahead.next().is_some_and(|(_, c)| c != ']')
            };
            if !is_range {
                ranges.push(first..=first);
                continue;
            }
            self.chars.next();
            let last = match self.chars.next() {
                Some((_, '\\')) => match self.escape()? {
                    Escape::Char(c) => c,
                    Escape::Class(..) => return Err(Wrong { message: "a range ends in a character".to_owned(), at }),
                },
                Some((_, c)) if c != '[' => c,
                _ => return Err(Wrong { message: "a range ends in a character".to_owned(), at }),
            };
            if last < first {
                return Err(Wrong { message: format!("the range `{first}-{last}` is empty"), at });
            }
            ranges.push(first..=last);
        }
        self.put_class(is_negated, &ranges);
        Ok(())
    }

    fn put_class(&mut self, is_negated: bool, ranges: &[RangeInclusive<char>]) {
        self.out.push_str(if is_negated { "[^" } else { "[" });
        for range in ranges {
            self.class_char(*range.start());
            if range.start() != range.end() {
                self.out.push('-');
                self.class_char(*range.end());
            }
        }
        self.out.push(']');
    }

    fn class_char(&mut self, c: char) {
        match control(c) {
            Some(name) => self.out.push_str(name),
            None => {
                if matches!(c, '\\' | ']' | '[' | '^' | '-' | '&' | '~') {
                    self.out.push('\\');
                }
                self.out.push(c);
            }
        }
    }

    fn literal(&mut self, c: char) {
        match control(c) {
            Some(name) => self.out.push_str(name),
            None => {
                if matches!(c, '.' | '^' | '$' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' | '\\') {
                    self.out.push('\\');
                }
                self.out.push(c);
            }
        }
    }
}

enum Escape {
    Char(char),
    Class(bool, Vec<RangeInclusive<char>>),
}

fn control(c: char) -> Option<&'static str> {
    Some(match c {
        '\n' => "\\n",
        '\t' => "\\t",
        '\r' => "\\r",
        '\x0c' => "\\f",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_what_both_engines_read_alike() {
        for (pattern, wanted) in [
            ("^IT", "^IT"),
            ("a.b", "a[^\\n]b"),
            (r"^\d{4}-\d+$", r"^[0-9]{4}-[0-9]+$"),
            ("(foo|bar)?x{2,}", "(?:foo|bar)?x{2,}"),
            (r"[a-z.\-\w]", r"[a-z.\-0-9A-Z_a-z]"),
            (r"\S\.[^@\s]", "[^\\t-\\n\\f-\\r ]\\.[^@\\t-\\n\\f-\\r ]"),
            ("a]b-c", "a\\]b-c"),
            ("[a-]", "[a\\-]"),
        ] {
            assert_eq!(canonical(pattern).unwrap(), wanted, "{pattern}");
        }
    }

    #[test]
    fn what_is_outside_the_subset_is_refused_by_name() {
        for (pattern, message) in [
            ("", "a pattern has 1 to 512 bytes"),
            ("a*?", "`matches` has no lazy or repeated repeats"),
            ("(?i)a", "`matches` has no flags, names or lookaround"),
            (r"\bword", r"`matches` has no `\b`"),
            (r"(a)\1", r"`matches` has no `\1`"),
            (r"\p{L}", r"`matches` has no `\p`"),
            ("[[:alpha:]]", r"write `\[` for a bracket inside a class"),
            ("a{2,999}", "a repeat counts to 255 at most"),
            ("a{5,2}", "a repeat begins with the smaller number"),
            ("(a{255}){255}", "the pattern repeats too much"),
            ("*a", "nothing stands before `*`"),
            ("a|", "a part of the pattern is empty"),
            ("(a", "a group of the pattern is not closed"),
            ("a)", "the pattern closes a group that it does not open"),
            ("[a", "a class of the pattern is not closed"),
            ("[z-a]", "the range `z-a` is empty"),
            ("^*", "an anchor is not repeated"),
            ("a\\", "the pattern ends in a `\\`"),
        ] {
            assert_eq!(canonical(pattern).unwrap_err().message, message, "{pattern}");
        }
    }
}
