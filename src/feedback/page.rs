//! The pages that people see who follow a link of ours: one frame, no script, nothing from elsewhere.

use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};

/// Nothing is loaded, nothing runs, forms come back here, nobody frames it.
const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";
const STYLE: &str = include_str!("page.css");

/// A page in a language (BCP 47). `body` is markup; whatever came from elsewhere in it is [escaped].
pub fn page(status: StatusCode, language: &str, title: &str, body: &str) -> Response {
    let (language, title) = (escaped(language), escaped(title));
    let html = format!(
        "<!doctype html><html lang=\"{language}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><title>{title}</title><style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, html).into_response()
}

/// A text that no browser takes for markup.
pub fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
