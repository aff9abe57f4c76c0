//! Whatever comes by mail, reading it ends and does not panic.
#![no_main]

// The module knows nothing of the crate, so that it is built alone, in seconds.
#[path = "../../src/feedback/mail/mod.rs"]
#[allow(dead_code)]
mod mail;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|raw: &[u8]| {
    let told = mail::read(raw);
    assert!(told.references.len() <= 16);
    assert!(told.references.iter().all(|text| text.len() <= 128 && text.is_ascii()));
    assert!(told.recipient.is_none_or(|text| text.contains('@')));
});
