//! What the messages of a step come to, by the price that their channel declares.

use crate::{
    api::channel::Price,
    review::report::{CostView, Figure},
    send::segments::Extent,
};

/// A price has at most so many places behind its point.
const PLACES: usize = 6;
const MILLION: i128 = 1_000_000;

/// `extents` are those of the texts that were written as samples.
pub(super) fn cost(price: &Price, sent: &Figure, extents: &[&Extent]) -> CostView {
    let Price { per_message, per_segment, currency } = price;
    let each = per_message.as_ref().or(per_segment.as_ref()).cloned().unwrap_or_default();
    let segments = extents.iter().map(|extent| extent.segments);
    let segments = segments.clone().min().zip(segments.max()).filter(|_| per_segment.is_some());
    let (least, most) = segments.unwrap_or((1, 1));
    let come_to = |segments: usize| {
        let segments = i128::try_from(segments).ok()?;
        Some(decimal(millionths(&each)? * i128::from(sent.value()?) * segments))
    };
    let (least, most) = (come_to(least), come_to(most));
    let about = if per_segment.is_some() || !matches!(sent, Figure::Exact(_)) { "≈" } else { "" };
    let amount = match (&least, &most) {
        (Some(least), _) if per_segment.is_some() && segments.is_none() => format!("at least {least} {currency}"),
        (Some(least), Some(most)) if least == most => format!("{about}{least} {currency}"),
        (Some(least), Some(most)) => format!("{about}{least} to {most} {currency}"),
        _ => "unknown".to_owned(),
    };
    let estimate = "an estimate, since a text may be longer for another person";
    let words = match segments {
        _ if per_segment.is_none() => format!("{each} {currency} for a message"),
        None => format!("{each} {currency} for a segment, of which nobody's text was written: one for each"),
        Some((1, 1)) => format!("{each} {currency} for a segment, 1 in each sample: {estimate}"),
        Some((least, most)) if least == most => {
            format!("{each} {currency} for a segment, {least} in each sample: {estimate}")
        }
        Some((least, most)) => format!("{each} {currency} for a segment, {least} to {most} in the samples: {estimate}"),
    };
    CostView {
        price: each,
        currency: currency.clone(),
        per: if per_segment.is_some() { "segment" } else { "message" }.to_owned(),
        segments_least: segments.map(|(least, _)| least),
        segments_most: segments.map(|(_, most)| most),
        least,
        most,
        amount,
        words,
    }
}

/// A decimal in millionths.
fn millionths(text: &str) -> Option<i128> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let part = format!("{part:0<PLACES$}");
    Some(whole.parse::<i128>().ok()? * MILLION + part.get(..PLACES)?.parse::<i128>().ok()?)
}

/// With two places, or as many as there are.
fn decimal(millionths: i128) -> String {
    let text = format!("{}.{:06}", millionths / MILLION, millionths % MILLION);
    let bare = text.trim_end_matches('0');
    let places = bare.rsplit('.').next().map_or(0, str::len);
    format!("{bare}{}", "0".repeat(2_usize.saturating_sub(places)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(message: Option<&str>, segment: Option<&str>) -> Price {
        let text = |text: Option<&str>| text.map(str::to_owned);
        Price { per_message: text(message), per_segment: text(segment), currency: "EUR".to_owned() }
    }

    #[test]
    fn money_is_counted_exactly() {
        for (text, n, expected) in
            [("0.05", 246, "12.30"), ("0.0075", 3, "0.0225"), ("1", 7, "7.00"), ("0.000001", 1, "0.000001")]
        {
            assert_eq!(decimal(millionths(text).unwrap() * n), expected, "{text} × {n}");
        }
    }

    #[test]
    fn an_estimate_says_that_it_is_one() {
        let (short, long) = (Extent::of("Ciao"), Extent::of(&"ç".repeat(100)));
        let told = |price: &Price, sent: Figure, extents: &[&Extent]| {
            let view = cost(price, &sent, extents);
            format!("{} / {}", view.amount, view.words)
        };
        let (message, segment) = (price(Some("0.05"), None), price(None, Some("0.05")));
        insta::assert_snapshot!(
            [
                told(&message, Figure::Exact(246), &[]),
                told(&message, Figure::About(250), &[&long]),
                told(&segment, Figure::Exact(246), &[&short]),
                told(&segment, Figure::Exact(246), &[&short, &long]),
                told(&segment, Figure::Exact(246), &[&long]),
                told(&segment, Figure::Exact(246), &[]),
                told(&segment, Figure::Below(10), &[&short]),
                told(&message, Figure::Unknown("no table".to_owned()), &[]),
            ]
            .join("\n"),
            @r"
        12.30 EUR / 0.05 EUR for a message
        ≈12.50 EUR / 0.05 EUR for a message
        ≈12.30 EUR / 0.05 EUR for a segment, 1 in each sample: an estimate, since a text may be longer for another person
        ≈12.30 to 24.60 EUR / 0.05 EUR for a segment, 1 to 2 in the samples: an estimate, since a text may be longer for another person
        ≈24.60 EUR / 0.05 EUR for a segment, 2 in each sample: an estimate, since a text may be longer for another person
        at least 12.30 EUR / 0.05 EUR for a segment, of which nobody's text was written: one for each
        unknown / 0.05 EUR for a segment, 1 in each sample: an estimate, since a text may be longer for another person
        unknown / 0.05 EUR for a message
        "
        );
    }
}
