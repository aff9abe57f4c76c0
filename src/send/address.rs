//! Addresses, by medium: which text is one, and who is reached by it.

use std::borrow::Cow;

use super::mime;
use crate::api::medium::Medium;

/// E.164: a country code, which never begins with a zero, and at most fifteen digits; seven of them name a subscriber.
pub const PHONE: &str = "^\\+[1-9][0-9]{6,14}$";
const PHONE_DIGITS: std::ops::RangeInclusive<usize> = 7..=15;
/// What E.123 and habit put between digits. Not parentheses: those around a trunk prefix, as in `+44 (0)20`, are not dialled.
pub const BETWEEN_DIGITS: [char; 5] = [' ', '\u{a0}', '.', '-', '/'];
/// Of what has no form of its own, such as a device's token.
pub const BYTES_MAX: usize = 4_096;
/// Ofcom keeps these numbers free for drama.
const NOBODYS_PHONE: &str = "+447700900000";
/// RFC 2606: it reaches nobody.
const NOBODYS_MAIL: &str = "masked@example.invalid";

/// Whether a message of the medium can go to the address.
pub fn is_fit(medium: Medium, text: &str) -> bool {
    match medium {
        Medium::Email => mime::is_address(text),
        Medium::Sms => is_phone(text),
        Medium::Push | Medium::Postal | Medium::Http => !text.is_empty() && text.len() <= BYTES_MAX,
    }
}

/// What [`PHONE`] takes.
pub fn is_phone(text: &str) -> bool {
    text.strip_prefix('+').is_some_and(|digits| {
        PHONE_DIGITS.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
    })
}

/// An address that a person typed, as it is sent to.
pub fn plain(medium: Medium, text: &str) -> Cow<'_, str> {
    let text = text.trim();
    match medium {
        Medium::Sms if text.contains(BETWEEN_DIGITS) => Cow::Owned(text.replace(BETWEEN_DIGITS, "")),
        _ => Cow::Borrowed(text),
    }
}

/// An address that reaches nobody, for a message that is only looked at.
pub fn nobodys(medium: Medium) -> &'static str {
    match medium {
        Medium::Email => NOBODYS_MAIL,
        Medium::Sms => NOBODYS_PHONE,
        Medium::Push | Medium::Postal | Medium::Http => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phones_are_as_the_pattern_says() {
        let pattern = regex::Regex::new(PHONE).unwrap();
        for (text, is_one) in [
            ("+393331234567", true),
            ("+1234567", true),
            ("+123456789012345", true),
            ("+123456", false),
            ("+1234567890123456", false),
            ("+0393331234567", false),
            ("00393331234567", false),
            ("3331234567", false),
            ("+39333123456a", false),
            ("+39 333 1234567", false),
            ("+39333\u{661}234567", false),
            ("+393331234567\n", false),
            ("", false),
            ("+", false),
        ] {
            assert_eq!((is_phone(text), pattern.is_match(text)), (is_one, is_one), "{text:?}");
        }
        assert_eq!(plain(Medium::Sms, " +39 333-123.45/67 "), "+393331234567");
        assert!(!is_phone(&plain(Medium::Sms, "+44 (0)20 7946 0000")), "nobody knows whether the zero is dialled");
        assert!(is_fit(Medium::Sms, nobodys(Medium::Sms)) && is_fit(Medium::Email, nobodys(Medium::Email)));
    }
}
