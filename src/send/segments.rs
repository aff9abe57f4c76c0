//! How a text travels: in which alphabet, and in how many segments, each of which is paid for.
//!
//! A segment has 140 octets (3GPP TS 23.040): 160 characters of the GSM 7-bit alphabet (3GPP TS 23.038), or 70 units of
//! UCS-2 as soon as one character is outside it. Of a text that needs several segments each begins with six octets that
//! say which it is, and 153 characters or 67 units are left. Characters of the alphabet's extension, such as `€` and `{`,
//! count twice; so do those outside Unicode's basic plane, such as most emoji. Neither is cut in two.

use std::{collections::HashMap, fmt, sync::LazyLock};

use schemars::JsonSchema;
use serde::Serialize;

/// Of a segment that is the whole text, and of one of several.
const SEPTETS: (usize, usize) = (160, 153);
const UNITS: (usize, usize) = (70, 67);
/// What calls a character of the extension; not a character of its own.
const ESCAPE: u8 = 0x1b;
/// 3GPP TS 23.038, section 6.2.1, in the order of their codes.
const BASIC: &str = "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ\u{1b}ÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿\
                     abcdefghijklmnopqrstuvwxyzäöñüà";
/// Section 6.2.1.1.
const EXTENSION: [(char, u8); 10] = [
    ('\u{c}', 0x0a),
    ('^', 0x14),
    ('{', 0x28),
    ('}', 0x29),
    ('\\', 0x2f),
    ('[', 0x3c),
    ('~', 0x3d),
    (']', 0x3e),
    ('|', 0x40),
    ('€', 0x65),
];

/// The codes of a character: one, or two of which the first is [`ESCAPE`].
static CODES: LazyLock<HashMap<char, (u8, Option<u8>)>> = LazyLock::new(|| {
    let basic = BASIC.chars().zip(0_u8..).filter(|(_, code)| *code != ESCAPE).map(|(c, code)| (c, (code, None)));
    basic.chain(EXTENSION.map(|(c, code)| (c, (ESCAPE, Some(code))))).collect()
});

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum Alphabet {
    #[serde(rename = "GSM-7")]
    Gsm7,
    #[serde(rename = "UCS-2")]
    Ucs2,
}

impl fmt::Display for Alphabet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Gsm7 { "GSM-7" } else { "UCS-2" })
    }
}

/// How large a text is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Extent {
    pub alphabet: Alphabet,
    /// Of an empty text it is one all the same.
    pub segments: usize,
    /// Characters of GSM-7, those of its extension twice, or units of UCS-2.
    pub units: usize,
    /// The first character outside GSM-7, which decides for UCS-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<char>,
}

impl Extent {
    pub fn of(text: &str) -> Self {
        let parts = parts(text);
        let octets: usize = parts.octets.iter().map(Vec::len).sum();
        let units = if parts.alphabet == Alphabet::Gsm7 { octets } else { octets / 2 };
        let decided_by = text.chars().find(|c| !CODES.contains_key(c));
        Self { alphabet: parts.alphabet, segments: parts.octets.len(), units, decided_by }
    }
}

/// `2 segments of UCS-2, by “ç” (U+00E7)`.
impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.segments == 1 { "" } else { "s" };
        write!(f, "{} segment{plural} of {}", self.segments, self.alphabet)?;
        match self.decided_by {
            // What cannot be seen would be told by nothing.
            Some(c) if c.is_control() || c.is_whitespace() => write!(f, ", by U+{:04X}", u32::from(c)),
            Some(c) => write!(f, ", by “{c}” (U+{:04X})", u32::from(c)),
            None => Ok(()),
        }
    }
}

/// A text in segments, without what tells one from another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    pub alphabet: Alphabet,
    /// GSM-7 with a code in each octet, or UCS-2 with the higher octet first.
    pub octets: Vec<Vec<u8>>,
}

pub fn parts(text: &str) -> Parts {
    let codes: Option<Vec<Vec<u8>>> = text.chars().map(codes).collect();
    match codes {
        Some(codes) => Parts { alphabet: Alphabet::Gsm7, octets: cut(codes, SEPTETS, 1) },
        None => {
            let units =
                text.chars().map(|c| c.encode_utf16(&mut [0; 2]).iter().flat_map(|u| u.to_be_bytes()).collect());
            Parts { alphabet: Alphabet::Ucs2, octets: cut(units.collect(), UNITS, 2) }
        }
    }
}

fn codes(c: char) -> Option<Vec<u8>> {
    let (first, second) = *CODES.get(&c)?;
    Some([first].into_iter().chain(second).collect())
}

/// A text of GSM-7 codes, one in each octet. What is no code of the extension is the character of the alphabet itself.
pub fn gsm_text(octets: &[u8]) -> String {
    let basic: Vec<char> = BASIC.chars().collect();
    let (mut text, mut is_escaped) = (String::with_capacity(octets.len()), false);
    for octet in octets {
        let extended = EXTENSION.iter().find(|(_, code)| is_escaped && code == octet).map(|(c, _)| *c);
        if *octet == ESCAPE && !is_escaped {
            is_escaped = true;
            continue;
        }
        is_escaped = false;
        text.extend(extended.or_else(|| basic.get(usize::from(*octet & 0x7f)).copied()));
    }
    text
}

/// Puts whole characters together, as many as fit.
fn cut(characters: Vec<Vec<u8>>, (alone, of_several): (usize, usize), unit: usize) -> Vec<Vec<u8>> {
    let all: usize = characters.iter().map(Vec::len).sum();
    if all <= alone * unit {
        return vec![characters.concat()];
    }
    let mut parts = vec![vec![]];
    for character in characters {
        match parts.last_mut() {
            Some(last) if last.len() + character.len() <= of_several * unit => last.extend(character),
            _ => parts.push(character),
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> String {
        let Extent { alphabet, segments, units, .. } = Extent::of(text);
        format!("{alphabet} {units} in {segments}")
    }

    #[test]
    fn the_alphabet_has_its_codes() {
        assert_eq!(BASIC.chars().count(), 128);
        for (text, codes) in [
            ("@£$", vec![0, 1, 2]),
            ("Aaz", vec![0x41, 0x61, 0x7a]),
            ("àΩ_", vec![0x7f, 0x15, 0x11]),
            ("€[", vec![0x1b, 0x65, 0x1b, 0x3c]),
        ] {
            assert_eq!(parts(text), Parts { alphabet: Alphabet::Gsm7, octets: vec![codes] }, "{text}");
        }
        assert_eq!(gsm_text(&parts("Ciao €5 {à}").octets.concat()), "Ciao €5 {à}");
        assert_eq!(parts("ç👋").octets, [vec![0x00, 0xe7, 0xd8, 0x3d, 0xdc, 0x4b]]);
        assert_eq!(Extent::of("\u{1b}").alphabet, Alphabet::Ucs2, "an escape is no character");
        assert_eq!(Extent::of("5 ` 6").decided_by, Some('`'), "the only mark of ASCII that is not in it");
    }

    #[test]
    fn segments_are_those_that_are_paid_for() {
        for (text, expected) in [
            (String::new(), "GSM-7 0 in 1"),
            ("a".repeat(160), "GSM-7 160 in 1"),
            ("a".repeat(161), "GSM-7 161 in 2"),
            ("a".repeat(306), "GSM-7 306 in 2"),
            ("a".repeat(307), "GSM-7 307 in 3"),
            ("€".repeat(80), "GSM-7 160 in 1"),
            ("€".repeat(81), "GSM-7 162 in 2"),
            // 76 pairs fit into 153, and one code stays free.
            ("€".repeat(153), "GSM-7 306 in 3"),
            ("ç".repeat(70), "UCS-2 70 in 1"),
            ("ç".repeat(71), "UCS-2 71 in 2"),
            ("ç".repeat(135), "UCS-2 135 in 3"),
            ("👋".repeat(35), "UCS-2 70 in 1"),
            ("👋".repeat(67), "UCS-2 134 in 3"),
            (format!("{}ç", "a".repeat(69)), "UCS-2 70 in 1"),
        ] {
            assert_eq!(said(&text), expected, "{text}");
        }
        for text in ["€".repeat(200), "👋".repeat(200)] {
            let parts = parts(&text);
            let is_whole =
                |part: &Vec<u8>| part.len().is_multiple_of(if parts.alphabet == Alphabet::Gsm7 { 2 } else { 4 });
            assert!(parts.octets.iter().all(is_whole), "no character is cut in two");
        }
    }

    #[test]
    fn what_decides_is_shown() {
        for (text, expected) in [
            ("Ciao", "1 segment of GSM-7"),
            ("Ça va", "1 segment of GSM-7"),
            ("ça va", "1 segment of UCS-2, by “ç” (U+00E7)"),
            ("at\u{a0}9", "1 segment of UCS-2, by U+00A0"),
        ] {
            assert_eq!(Extent::of(text).to_string(), expected);
        }
    }
}
