//! A request as a channel declares it, compiled once, and written for each message.

use std::{collections::BTreeSet, ops::Range};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use minijinja::{Environment, Value};
use url::{Origin, Url, form_urlencoded};

use super::composed::{Form, composed, has_signs, mark};
use crate::{
    api::channel::{HttpChannel, HttpRequest},
    rule::{Problem, nearest},
    send::template::{self, Read, TemplateProblem},
};

const NAMES: [&str; 5] = ["to", "values", "secret", "key", "reference"];
/// They are ours to say.
const OURS: [&str; 6] = ["host", "content-length", "transfer-encoding", "connection", "upgrade", "te"];
/// Providers take far less; what is larger is a mistake.
const BODY_BYTES_MAX: usize = 1024 * 1024;
const URL_BYTES_MAX: usize = 8 * 1024;
const HEADER_BYTES_MAX: usize = 8 * 1024;
/// Some providers refuse who does not say what he is.
const AGENT: &str = concat!("campanile/", env!("CARGO_PKG_VERSION"));

/// What is wrong with a field of the channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Below `spec.http`.
    pub path: String,
    /// Bytes in its text.
    pub span: Option<Range<usize>>,
    pub message: String,
    pub hint: Option<String>,
}

impl Wrong {
    pub fn at(path: &str, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), span: None, message: message.into(), hint: None }
    }

    pub(super) fn of_problem(path: &str, problem: Problem) -> Self {
        let Problem { message, span, hint, .. } = problem;
        Self { path: path.to_owned(), span: Some(span), message, hint }
    }
}

enum Body {
    None,
    One(Form),
    Fields(Vec<String>),
}

pub(super) struct Template {
    environment: Environment<'static>,
    method: Method,
    /// Where it goes, whatever the message.
    origin: Origin,
    headers: Vec<HeaderName>,
    body: Body,
    /// The keys of the secret that are read.
    pub secrets: BTreeSet<String>,
    /// The values that are read by name, and in which field.
    pub values: Vec<(String, String)>,
}

/// Under these names minijinja knows the parts.
const URL: &str = "url";
const BODY: &str = "body";

fn header_part(index: usize) -> String {
    format!("headers[{index}]")
}

fn field_part(index: usize) -> String {
    format!("form[{index}]")
}

/// What a URL begins with, up to its first tag.
///
/// # Errors
/// If scheme, host and port do not stand before it.
pub(super) fn origin(url: &str) -> Result<Url, String> {
    let end = ["{{", "{%", "{#"].into_iter().filter_map(|tag| url.find(tag)).min();
    let fixed = end.map_or(url, |end| &url[..end]);
    let parsed = Url::parse(fixed).map_err(|error| format!("this is not a URL: {error}"))?;
    let authority = fixed.split_once("://").map_or("", |(_, rest)| rest);
    if end.is_some() && !authority.contains('/') {
        return Err("scheme, host and port are written out, and a `/` behind them".to_owned());
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err("a login stands in a header, not in the URL".to_owned());
    }
    Ok(parsed)
}

impl Template {
    /// # Errors
    /// All that is wrong with it.
    pub fn new(spec: &HttpChannel) -> Result<Self, Vec<Wrong>> {
        let request = &spec.request;
        let mut found = vec![];
        let mut environment = template::environment();
        mark(&mut environment);
        let origin = origin(&request.url).map(|url| url.origin()).unwrap_or_else(|message| {
            found.push(Wrong::at("request.url", message));
            Origin::new_opaque()
        });
        let (headers, wrong) = headers(request, &spec.idempotency_header);
        found.extend(wrong);
        let body = body(request);
        let mut template = Self {
            environment,
            method: Method::from_bytes(request.method.as_str().as_bytes()).unwrap_or(Method::POST),
            origin,
            headers,
            body,
            secrets: BTreeSet::new(),
            values: vec![],
        };
        for (name, path, text) in parts(request) {
            found.extend(template.add(spec, name, &path, text));
        }
        if found.is_empty() { Ok(template) } else { Err(found) }
    }

    fn add(&mut self, spec: &HttpChannel, name: String, path: &str, text: &str) -> Vec<Wrong> {
        let wrong = |span, message, hint| Wrong { path: path.to_owned(), span: Some(span), message, hint };
        let reads = match template::reads_of(text) {
            Ok(reads) => reads,
            Err(problems) => {
                let of = |TemplateProblem { span, message, hint, .. }| wrong(span, message, hint);
                return problems.into_iter().map(of).collect();
            }
        };
        let mut found = vec![];
        if has_signs(text) {
            found.push(wrong(0..text.len(), "U+FDD0 and U+FDD1 cannot stand in a request".to_owned(), None));
        }
        for Read { names, span, .. } in reads {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            match names.as_slice() {
                [] | ["to" | "key" | "reference" | "values"] => {}
                ["values", value] => match spec.carries.values() {
                    None => self.values.push(((*value).to_owned(), path.to_owned())),
                    Some(known) if known.contains(value) => {}
                    Some(known) => {
                        let message = format!("there is no value `{value}`; there are {}", known.join(", "));
                        let near = nearest(value, known.iter().copied());
                        found.push(wrong(span, message, near.map(|near| format!("did you mean `{near}`?"))));
                    }
                },
                ["secret", key] if spec.secret_ref.is_some() => drop(self.secrets.insert((*key).to_owned())),
                ["secret", ..] if spec.secret_ref.is_none() => {
                    found.push(wrong(span, "the channel has no secretRef".to_owned(), None));
                }
                ["secret"] => {
                    found.push(wrong(span, "name one of the secret's keys, as in secret.token".to_owned(), None));
                }
                [first @ ("to" | "key" | "reference" | "values" | "secret"), rest @ ..] => {
                    found.push(wrong(span, format!("`{first}` has no `{}`", rest.join(".")), None));
                }
                [first, ..] => {
                    let message = format!("there is no `{first}`; there are {}", NAMES.join(", "));
                    let near = nearest(first, NAMES);
                    found.push(wrong(span, message, near.map(|near| format!("did you mean `{near}`?"))));
                }
            }
        }
        if found.is_empty()
            && let Err(error) = self.environment.add_template_owned(name, text.to_owned())
        {
            found.push(wrong(0..text.len(), error.kind().to_string(), None));
        }
        found
    }

    /// The request for a message.
    ///
    /// # Errors
    /// Why there is none, without a value.
    pub fn request(&self, context: &Value) -> Result<Request<Bytes>, String> {
        let url = self.url(context)?;
        let (body, kind) = self.body(context)?;
        let mut headers = HeaderMap::new();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(AGENT));
        if let Some(kind) = kind {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        }
        for (index, name) in self.headers.iter().enumerate() {
            let text = self.written(&header_part(index), Form::Header, context)?;
            let text = text.trim();
            let value = HeaderValue::from_bytes(text.as_bytes()).ok().filter(|_| text.len() <= HEADER_BYTES_MAX);
            let mut value = value.ok_or_else(|| format!("the header {name} is none"))?;
            // It may hold a secret: nothing prints it.
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        let mut request = Request::builder().method(self.method.clone()).uri(url.as_str());
        if let Some(all) = request.headers_mut() {
            *all = headers;
        }
        request.body(body).map_err(|_| "the request is none".to_owned())
    }

    fn url(&self, context: &Value) -> Result<Url, String> {
        let text = self.written(URL, Form::Url, context)?;
        let text = text.trim();
        let path = text.split(['?', '#']).next().unwrap_or_default();
        // A value of two dots alone would lead elsewhere.
        if path.split('/').any(|segment| segment == "." || segment == "..") {
            return Err("a value leads out of the URL's path".to_owned());
        }
        let url = Url::parse(text).ok().filter(|_| text.len() <= URL_BYTES_MAX).ok_or("the URL is none")?;
        if url.origin() != self.origin {
            return Err("the URL leads to another host".to_owned());
        }
        Ok(url)
    }

    fn body(&self, context: &Value) -> Result<(Bytes, Option<&'static str>), String> {
        let (text, kind) = match &self.body {
            Body::None => return Ok((Bytes::new(), None)),
            Body::One(form) => {
                let kind = match form {
                    Form::Json => "application/json",
                    Form::Xml => "application/xml; charset=utf-8",
                    _ => "text/plain; charset=utf-8",
                };
                (self.written(BODY, *form, context)?, kind)
            }
            Body::Fields(names) => {
                let mut form = form_urlencoded::Serializer::new(String::new());
                for (index, name) in names.iter().enumerate() {
                    form.append_pair(name, &self.written(&field_part(index), Form::Plain, context)?);
                }
                (form.finish(), "application/x-www-form-urlencoded")
            }
        };
        if text.len() > BODY_BYTES_MAX {
            return Err(format!("the body is longer than {BODY_BYTES_MAX} bytes"));
        }
        Ok((text.into(), Some(kind)))
    }

    fn written(&self, part: &str, form: Form, context: &Value) -> Result<String, String> {
        let failed = |why: &dyn std::fmt::Display| format!("{part}: {why}");
        let template = self.environment.get_template(part).map_err(|error| failed(&error.kind()))?;
        let rendered = template.render(context).map_err(|error| failed(&error.kind()))?;
        composed(&rendered, form).map_err(|why| failed(&why))
    }
}

/// minijinja's names of all parts, the fields in which they stand, and their texts.
fn parts(request: &HttpRequest) -> Vec<(String, String, &str)> {
    let mut parts = vec![(URL.to_owned(), "request.url".to_owned(), request.url.as_str())];
    for (index, header) in request.headers.iter().enumerate() {
        parts.push((header_part(index), format!("request.headers[{index}].value"), &header.value));
    }
    for (name, text) in [("json", &request.json), ("xml", &request.xml), ("text", &request.text)] {
        parts.extend(text.iter().map(|text| (BODY.to_owned(), format!("request.{name}"), text.as_str())));
    }
    for (index, field) in request.form.iter().flatten().enumerate() {
        parts.push((field_part(index), format!("request.form[{index}].value"), &field.value));
    }
    parts
}

fn body(request: &HttpRequest) -> Body {
    match request {
        HttpRequest { json: Some(_), .. } => Body::One(Form::Json),
        HttpRequest { xml: Some(_), .. } => Body::One(Form::Xml),
        HttpRequest { text: Some(_), .. } => Body::One(Form::Plain),
        HttpRequest { form: Some(fields), .. } => Body::Fields(fields.iter().map(|field| field.name.clone()).collect()),
        _ => Body::None,
    }
}

fn headers(request: &HttpRequest, key_header: &str) -> (Vec<HeaderName>, Vec<Wrong>) {
    let (mut names, mut found) = (vec![], vec![]);
    for (index, header) in request.headers.iter().enumerate() {
        let mut wrong = |field: &str, message: String| {
            found.push(Wrong::at(&format!("request.headers[{index}].{field}"), message));
        };
        if header.value.contains(['\r', '\n', '\0']) {
            wrong("value", "a header is one line".to_owned());
        }
        match header.name.parse::<HeaderName>() {
            Err(_) => wrong("name", format!("`{}` is no header's name", header.name)),
            Ok(name) if OURS.contains(&name.as_str()) => wrong("name", format!("`{name}` follows from the request")),
            Ok(name) if key_header.eq_ignore_ascii_case(name.as_str()) => {
                wrong("name", format!("`{name}` is the idempotencyHeader, which is there already"));
            }
            Ok(name) if names.contains(&name) => wrong("name", format!("`{name}` is there twice")),
            Ok(name) => names.push(name),
        }
    }
    (names, found)
}
