//! What a message centre tells by `deliver_sm`: a receipt, or what a person wrote.

use async_trait::async_trait;
use rusmpp_core::{
    pdus::borrowed::DeliverSm,
    tlvs::borrowed::TlvValue,
    values::{DataCoding, ErrorCodeNetworkType, MessageState, Ton},
};

use crate::send::segments;

/// `esm_class`: what kind of message it is, and whether a user data header stands before the text.
const KIND: u8 = 0b0011_1100;
const RECEIPT: u8 = 0b0000_0100;
const NOTIFICATION: u8 = 0b0010_0000;
const UDHI: u8 = 0b0100_0000;
/// GSM's error for a number that nobody has (3GPP TS 29.002, unknownSubscriber).
const UNKNOWN_SUBSCRIBER: u16 = 1;

/// Takes what message centres tell; it is answered once it is on the disk.
#[async_trait]
pub trait Told: Send + Sync {
    /// # Errors
    /// It is not taken, and is to be told again.
    async fn receipt(&self, receipt: Receipt) -> Result<(), String>;

    /// What the owner of a number wrote.
    ///
    /// # Errors
    /// It is not taken, and is to be told again.
    async fn text(&self, from: &str, text: &str) -> Result<(), String>;
}

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The centre's id of the message.
    pub id: String,
    pub state: MessageState,
    /// The network says that nobody has the number.
    pub is_number_unknown: bool,
    /// Whom it was for, as E.164 writes it, as far as the centre says.
    pub to: Option<String>,
}

/// A `deliver_sm`, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    Receipt(Receipt),
    Text { from: String, text: String },
    Other,
}

impl Word {
    pub fn of<const N: usize>(told: &DeliverSm<'_, N>) -> Self {
        let class = u8::from(told.esm_class);
        let payload = told.tlvs().iter().find_map(|tlv| match tlv.value() {
            Some(TlvValue::MessagePayload(payload)) => Some(payload.value.as_ref()),
            _ => None,
        });
        let short: &[u8] = told.short_message().as_ref();
        let octets = if short.is_empty() { payload.unwrap_or_default() } else { short };
        let octets = if class & UDHI != 0 { behind_header(octets) } else { octets };
        let from = number(told.source_addr_ton, told.source_addr.as_str());
        match class & KIND {
            RECEIPT | NOTIFICATION => receipt(told, &String::from_utf8_lossy(octets), from),
            0 => Self::Text { from, text: text(told.data_coding, octets) },
            _ => Self::Other,
        }
    }
}

/// A user data header says its own length.
fn behind_header(octets: &[u8]) -> &[u8] {
    let length = octets.first().map_or(0, |length| usize::from(*length) + 1);
    octets.get(length..).unwrap_or_default()
}

/// Centres write numbers of the whole world without their `+`.
fn number(ton: Ton, text: &str) -> String {
    let is_digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match ton {
        Ton::International | Ton::Unknown if is_digits => format!("+{text}"),
        _ => text.to_owned(),
    }
}

fn text(coding: DataCoding, octets: &[u8]) -> String {
    match coding {
        DataCoding::Ucs2 => {
            let units: Vec<u16> = octets.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
            String::from_utf16_lossy(&units)
        }
        DataCoding::McSpecific => segments::gsm_text(octets),
        // ASCII is a part of it.
        _ => octets.iter().map(|b| char::from(*b)).collect(),
    }
}

/// The parameters say it where they are there; the text has a form of its own (SMPP 3.4, appendix B).
fn receipt<const N: usize>(told: &DeliverSm<'_, N>, text: &str, from: String) -> Word {
    let (mut id, mut state, mut is_number_unknown) = (field(text, "id:").map(str::to_owned), None, false);
    for tlv in told.tlvs() {
        match tlv.value() {
            Some(TlvValue::ReceiptedMessageId(given)) => id = Some(given.as_str().to_owned()),
            Some(TlvValue::MessageState(given)) => state = Some(*given),
            Some(TlvValue::NetworkErrorCode(code)) => {
                is_number_unknown =
                    code.network_type == ErrorCodeNetworkType::Gsm && code.error_code == UNKNOWN_SUBSCRIBER;
            }
            _ => {}
        }
    }
    let state = state.or_else(|| field(text, "stat:").map(named));
    match id.filter(|id| !id.is_empty()).zip(state) {
        Some((id, state)) => {
            Word::Receipt(Receipt { id, state, is_number_unknown, to: Some(from).filter(|from| from.starts_with('+')) })
        }
        None => Word::Other,
    }
}

/// The word behind `name`, whatever its case.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let lower = text.to_ascii_lowercase();
    let mut found = lower.match_indices(name);
    let (at, _) = found.find(|(at, _)| lower[..*at].chars().next_back().is_none_or(char::is_whitespace))?;
    text[at + name.len()..].split_whitespace().next()
}

fn named(word: &str) -> MessageState {
    match word.to_ascii_uppercase().as_str() {
        "DELIVRD" => MessageState::Delivered,
        "EXPIRED" => MessageState::Expired,
        "DELETED" => MessageState::Deleted,
        "UNDELIV" => MessageState::Undeliverable,
        "REJECTD" => MessageState::Rejected,
        "ACCEPTD" => MessageState::Accepted,
        "ENROUTE" => MessageState::Enroute,
        _ => MessageState::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use rusmpp_core::{
        pdus::borrowed::builders::DeliverSmBuilder,
        tlvs::borrowed::MessageDeliveryRequestTlvValue as Tlv,
        types::borrowed::{COctetString, OctetString},
        values::{EsmClass, NetworkErrorCode},
    };

    use super::*;

    fn told(class: u8, octets: &[u8]) -> DeliverSmBuilder<'_, 4> {
        DeliverSm::builder()
            .source_addr_ton(Ton::International)
            .source_addr(COctetString::new(b"393331234567\0").unwrap())
            .esm_class(EsmClass::from(class))
            .short_message(OctetString::new(octets).unwrap())
    }

    fn read(text: &str) -> Word {
        Word::of(&told(RECEIPT, text.as_bytes()).build())
    }

    fn received(id: &str, state: MessageState) -> Word {
        let to = Some("+393331234567".to_owned());
        Word::Receipt(Receipt { id: id.to_owned(), state, is_number_unknown: false, to })
    }

    #[test]
    fn receipts_are_read_as_they_are_written() {
        let form = "id:0123456789 sub:001 dlvrd:001 submit date:2603010900 done date:2603010901 stat:DELIVRD err:000 text:Hi id:9";
        assert_eq!(read(form), received("0123456789", MessageState::Delivered));
        assert_eq!(read("ID:7f3A Stat:undeliv"), received("7f3A", MessageState::Undeliverable));
        assert_eq!(read("id:1 stat:EXPIRED"), received("1", MessageState::Expired));
        assert_eq!(read("id:1 stat:REJECTD"), received("1", MessageState::Rejected));
        assert_eq!(read("id:1 stat:ACCEPTD"), received("1", MessageState::Accepted));
        assert_eq!(read("id:1 stat:WHAT"), received("1", MessageState::Unknown));
        for text in ["", "stat:DELIVRD", "id: stat:", "id:1", "\u{0}\u{ff}"] {
            assert_eq!(read(text), Word::Other, "{text:?}");
        }
        let by_tlv = told(RECEIPT, b"")
            .push_tlv(Tlv::ReceiptedMessageId(COctetString::new(b"abc\0").unwrap()))
            .unwrap()
            .push_tlv(Tlv::MessageState(MessageState::Undeliverable))
            .unwrap()
            .push_tlv(Tlv::NetworkErrorCode(NetworkErrorCode::new(ErrorCodeNetworkType::Gsm, 1)))
            .unwrap()
            .build();
        let Word::Receipt(receipt) = Word::of(&by_tlv) else { panic!("{by_tlv:?}") };
        assert_eq!(
            (receipt.id.as_str(), receipt.state, receipt.is_number_unknown),
            ("abc", MessageState::Undeliverable, true)
        );
        assert_eq!(Word::of(&told(0b0000_1000, b"id:1 stat:DELIVRD").build()), Word::Other, "a phone's own receipt");
    }

    #[test]
    fn what_people_write_is_read_in_its_alphabet() {
        let from = "+393331234567".to_owned();
        let of =
            |coding: DataCoding, class: u8, octets: &[u8]| Word::of(&told(class, octets).data_coding(coding).build());
        let said = |text: &str| Word::Text { from: from.clone(), text: text.to_owned() };
        assert_eq!(of(DataCoding::McSpecific, 0, b"STOP \x00 \x1b\x65"), said("STOP @ €"));
        assert_eq!(of(DataCoding::Ucs2, 0, &[0, b's', 0xd8, 0x3d, 0xdc, 0x4b]), said("s👋"));
        assert_eq!(of(DataCoding::Latin1, 0, b"st\xf6p"), said("stöp"));
        assert_eq!(of(DataCoding::Ia5, UDHI, b"\x05\x00\x03\x01\x01\x01stop"), said("stop"));
        assert_eq!(of(DataCoding::Ia5, UDHI, b"\xffstop"), said(""), "a header that is longer than the text");
        assert_eq!(of(DataCoding::Ucs2, 0, &[0]), said(""));
    }
}
