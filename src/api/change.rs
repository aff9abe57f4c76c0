//! How far a number may move from what it was: by so many, or by a percent of it.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Whether `now` is no further from `before` than `limit` lets it be.
pub(super) fn is_within(limit: &IntOrString, now: i64, before: i64) -> bool {
    let change = now.abs_diff(before);
    match limit {
        IntOrString::Int(n) => u64::try_from(*n).is_ok_and(|n| change <= n),
        // Exact, as `20%` of 5 rows is one row: both sides in hundredths.
        IntOrString::String(text) => percent(text).is_some_and(|percent| {
            u128::from(change) * 10_000 <= u128::from(percent) * u128::from(before.unsigned_abs())
        }),
    }
}

/// Why a limit of `what` cannot be read, if it cannot.
pub(super) fn problem(limit: &IntOrString, what: &str) -> Option<String> {
    match limit {
        IntOrString::Int(n) if *n >= 0 => None,
        IntOrString::String(text) if percent(text).is_some() => None,
        IntOrString::Int(n) => Some(format!("`{n}` is not a number of {what}")),
        IntOrString::String(text) => Some(format!("`{text}` is neither a number of {what} nor a percent")),
    }
}

/// As it was written.
pub(super) fn shown(limit: &IntOrString) -> String {
    match limit {
        IntOrString::Int(n) => n.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}

/// `20%` or `2.5%` in hundredths of a percent.
fn percent(text: &str) -> Option<u64> {
    let number = text.strip_suffix('%')?;
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let is_number = |digits: &str| digits.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || whole.len() > 9 || part.len() > 2 || !is_number(whole) || !is_number(part) {
        return None;
    }
    format!("{whole}{part:0<2}").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percents_are_exact() {
        let texts = ["20%", "2.5%", "0.05%", "100%", "%", "20", "1.555%", "-1%", "1e3%"];
        let read = texts.map(percent);
        assert_eq!(read, [Some(2_000), Some(250), Some(5), Some(10_000), None, None, None, None, None]);
    }
}
