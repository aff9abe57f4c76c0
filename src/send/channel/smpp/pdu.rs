//! Bytes to PDUs and back: each is framed by its own length, so that one that cannot be read costs no connection.

use std::io;

use rusmpp_core::{
    CommandStatus,
    command::borrowed::Command,
    decode::borrowed::DecodeWithLength,
    encode::{Encode, Length},
    pdus::borrowed::{Pdu, SubmitSm},
    types::borrowed::{COctetString, OctetString},
    values::{DataCoding, EsmClass, Npi, RegisteredDelivery, Ton},
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::told::Word;
use crate::send::segments::Alphabet;

/// The octets of a PDU's header.
const HEADER: usize = 16;
/// The longest that a `message_payload` makes one.
const PDU_BYTES_MAX: usize = 128 * 1024;
/// Bit 7 of a command's id: it answers one.
const RESPONSE: u32 = 0x8000_0000;
/// `esm_class`: the text begins with a user data header.
const UDHI: u8 = 0x40;
/// `registered_delivery`: a receipt of the end, whatever it is, or only of a failure.
const RECEIPT: u8 = 0x01;
const RECEIPT_OF_FAILURE: u8 = 0x02;

/// Optional parameters of one PDU. The standard has fewer for each.
const PARAMETERS_MAX: usize = 32;
/// Where a PDU has its number.
const SEQUENCE: std::ops::Range<usize> = 12..16;

/// A PDU as it came in.
#[derive(Debug)]
pub struct Frame {
    pub id: u32,
    pub status: CommandStatus,
    pub sequence: u32,
    /// None: it cannot be read, or has no body.
    pub body: Option<Body>,
}

/// What is read of a PDU.
#[derive(Debug)]
pub enum Body {
    /// The centre's id of a message.
    Taken(String),
    Told(Word),
    EnquireLink,
    Unbind,
    UnbindResp,
    AlertNotification,
    Other,
}

impl Body {
    fn of(pdu: &Pdu<'_, PARAMETERS_MAX>) -> Self {
        match pdu {
            Pdu::SubmitSmResp(resp) => Self::Taken(resp.message_id().as_str().to_owned()),
            Pdu::DeliverSm(told) => Self::Told(Word::of(told)),
            Pdu::EnquireLink => Self::EnquireLink,
            Pdu::Unbind => Self::Unbind,
            Pdu::UnbindResp => Self::UnbindResp,
            Pdu::AlertNotification(_) => Self::AlertNotification,
            _ => Self::Other,
        }
    }
}

impl Frame {
    pub fn is_response(&self) -> bool {
        self.id & RESPONSE != 0
    }

    /// # Errors
    /// The connection is lost, or what comes is no SMPP.
    pub async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Self> {
        let length = usize::try_from(from.read_u32().await?).unwrap_or(usize::MAX);
        if !(HEADER..=PDU_BYTES_MAX).contains(&length) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a PDU of {length} octets")));
        }
        let mut bytes = vec![0; length - 4];
        from.read_exact(&mut bytes).await?;
        let word = |at: usize| bytes.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]));
        let (id, status, sequence) = (word(0), CommandStatus::from(word(4)), word(8));
        let read = <Command<'_, PARAMETERS_MAX> as DecodeWithLength>::decode(&bytes, length - 4);
        let body = read.ok().and_then(|(command, _)| command.pdu().map(Body::of));
        Ok(Self { id, status, sequence, body })
    }
}

/// A PDU as it goes out.
pub fn bytes_of<'a>(status: CommandStatus, sequence: u32, pdu: impl Into<Pdu<'a, PARAMETERS_MAX>>) -> Vec<u8> {
    let command = Command::new(status, sequence, pdu);
    let mut bytes = vec![0; 4 + command.length()];
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let (head, body) = bytes.split_at_mut(4);
    head.copy_from_slice(&length.to_be_bytes());
    command.encode(body);
    bytes
}

/// The same PDU under another number.
pub fn numbered(mut bytes: Vec<u8>, sequence: u32) -> Vec<u8> {
    if let Some(place) = bytes.get_mut(SEQUENCE) {
        place.copy_from_slice(&sequence.to_be_bytes());
    }
    bytes
}

/// Who a text is from, as numbers are told apart: type and plan, and what is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source<'a>(Ton, Npi, &'a str);

/// Whether a sender is a number, of a country or of a network.
pub fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

impl<'a> Source<'a> {
    pub fn of(from: &'a str) -> Self {
        match from.strip_prefix('+') {
            Some(digits) => Self(Ton::International, Npi::Isdn, digits),
            None if is_number(from) => Self(Ton::NetworkSpecific, Npi::Unknown, from),
            None => Self(Ton::Alphanumeric, Npi::Unknown, from),
        }
    }
}

/// One segment to one number.
pub struct Submission<'a> {
    pub from: Source<'a>,
    pub to: &'a str,
    pub alphabet: Alphabet,
    pub octets: &'a [u8],
    /// Of several: their reference, how many they are, and which this is.
    pub part: Option<(u8, usize, usize)>,
    pub is_last: bool,
}

impl Submission<'_> {
    /// A `submit_sm` that has no number yet.
    ///
    /// # Errors
    /// What does not fit into its field.
    pub fn bytes(&self) -> Result<Vec<u8>, String> {
        let Source(ton, npi, from) = self.from;
        let mut text = Vec::with_capacity(self.octets.len() + 6);
        if let Some((reference, count, index)) = self.part {
            let octet = |n: usize| u8::try_from(n).map_err(|_| "too many segments".to_owned());
            text.extend([5, 0, 3, reference, octet(count)?, octet(index)?]);
        }
        text.extend(self.octets);
        let (from, to) = (c_text(from), c_text(self.to.trim_start_matches('+')));
        let receipt = if self.is_last { RECEIPT } else { RECEIPT_OF_FAILURE };
        let submit = SubmitSm::<PARAMETERS_MAX>::builder()
            .source_addr_ton(ton)
            .source_addr_npi(npi)
            .source_addr(c_string(&from, "the sender")?)
            .dest_addr_ton(Ton::International)
            .dest_addr_npi(Npi::Isdn)
            .destination_addr(c_string(&to, "the number")?)
            .esm_class(EsmClass::from(if self.part.is_some() { UDHI } else { 0 }))
            .registered_delivery(RegisteredDelivery::from(receipt))
            .data_coding(match self.alphabet {
                Alphabet::Gsm7 => DataCoding::McSpecific,
                Alphabet::Ucs2 => DataCoding::Ucs2,
            })
            .short_message(OctetString::new(&text).map_err(|_| "the segment is too long".to_owned())?)
            .build();
        Ok(bytes_of(CommandStatus::EsmeRok, 0, submit))
    }
}

/// A text with the NUL that ends it.
pub fn c_text(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

/// What [`c_text`] made, if it fits into a field of `MAX` octets.
///
/// # Errors
/// It is longer, or not plain.
pub fn c_string<'a, const MAX: usize>(text: &'a [u8], what: &str) -> Result<COctetString<'a, 1, MAX>, String> {
    let is_plain = text.iter().filter(|b| !(b' '..=b'~').contains(b)).count() == 1;
    let made = COctetString::new(text).ok().filter(|_| is_plain);
    made.ok_or_else(|| format!("{what} does not fit into {} characters of ASCII", MAX - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn again(bytes: &[u8]) -> Frame {
        Frame::read(&mut &*bytes).await.unwrap()
    }

    #[tokio::test]
    async fn what_goes_out_is_smpp() {
        let submission = Submission {
            from: Source::of("Shop"),
            to: "+393331234567",
            alphabet: Alphabet::Ucs2,
            octets: &[0, 0xe7],
            part: Some((7, 2, 1)),
            is_last: false,
        };
        let bytes = numbered(submission.bytes().unwrap(), 9);
        // Header, service type, type and plan, sender, type and plan, number.
        let expected = [
            [0, 0, 0, 57, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 9].as_slice(),
            &[0, 5, 0],
            b"Shop\0",
            &[1, 1],
            b"393331234567\0",
            // esm_class, protocol, priority, two times, receipt, replace, coding, default message.
            &[UDHI, 0, 0, 0, 0, RECEIPT_OF_FAILURE, 0, 8, 0],
            &[8, 5, 0, 3, 7, 2, 1, 0, 0xe7],
        ]
        .concat();
        assert_eq!(&bytes[..], &expected[..]);
        let frame = again(&bytes).await;
        assert!(matches!(frame.body, Some(Body::Other)) && !frame.is_response());
    }

    #[tokio::test]
    async fn what_cannot_be_read_has_its_number_all_the_same() {
        // A deliver_sm that ends in the middle of its first address.
        let frame = again(&[0, 0, 0, 20, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 1, b'3']).await;
        assert!(frame.body.is_none() && frame.id == 5 && frame.sequence == 3);
        // A refusal has no body.
        let frame = again(&[0, 0, 0, 16, 0x80, 0, 0, 4, 0, 0, 0, 0x58, 0, 0, 0, 3]).await;
        assert!(frame.is_response() && frame.status == CommandStatus::EsmeRthrottled);
        for length in [15_u32, 0, 1 << 30] {
            let bytes = [length.to_be_bytes().as_slice(), &[0; 12]].concat();
            assert!(Frame::read(&mut &*bytes).await.is_err());
        }
    }

    #[test]
    fn senders_are_told_apart() {
        assert_eq!(Source::of("+393331234567"), Source(Ton::International, Npi::Isdn, "393331234567"));
        assert_eq!(Source::of("40404"), Source(Ton::NetworkSpecific, Npi::Unknown, "40404"));
        assert_eq!(Source::of("Shop"), Source(Ton::Alphanumeric, Npi::Unknown, "Shop"));
        let fits = |text: &str| c_string::<9>(&c_text(text), "x").is_ok();
        assert!(fits("12345678") && fits("") && !fits("123456789") && !fits("pàss") && !fits("a\0b"));
    }
}
