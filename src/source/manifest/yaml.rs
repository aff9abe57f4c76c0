//! YAML as kubectl reads it, with the place of every node.
//!
//! kubectl's library reads YAML 1.1: a plain `NO` is a boolean there, `0777` is 511, `1_000` is a thousand. What
//! the two versions read differently is refused with the advice to quote it, so that both homes read a manifest alike.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use serde_json::{Map, Value};

use super::Diagnostic;

const INVALID: &str = "invalid-yaml";
const AMBIGUOUS: &str = "ambiguous-yaml";

const FILE_BYTES_MAX: usize = 4 * 1024 * 1024;
const DEPTH_MAX: usize = 64;
/// Counts the nodes that aliases repeat, too: a bomb of aliases ends here.
const NODES_MAX: usize = 100_000;

/// The words that kubectl turns into booleans beside `true` and `false`.
const BOOLEAN_WORDS: [&str; 16] =
    ["y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF"];

/// A value and where it stands (bytes in the file).
#[derive(Clone, Debug)]
pub struct Node {
    pub span: Range<usize>,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// The value, and whether its text is in the file as it is (not folded, not escaped).
    Scalar(Value, bool),
    List(Vec<Node>),
    Map(Vec<(String, Range<usize>, Node)>),
}

impl Node {
    pub fn value(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value, _) => value.clone(),
            Kind::List(items) => Value::Array(items.iter().map(Node::value).collect()),
            Kind::Map(entries) => {
                Value::Object(entries.iter().map(|(key, _, node)| (key.clone(), node.value())).collect::<Map<_, _>>())
            }
        }
    }

    pub fn get(&self, name: &str) -> Option<&Node> {
        match &self.kind {
            Kind::Map(entries) => entries.iter().find(|(key, _, _)| key == name).map(|(_, _, node)| node),
            _ => None,
        }
    }

    /// The nodes that a path such as `spec.steps[2].audience.where` leads through, each with the place where it begins:
    /// its key, or the item itself. It ends where there is no such node. A key may have dots.
    pub fn way(&self, path: &str) -> Vec<(Range<usize>, &Node)> {
        let (mut found, mut node, mut rest) = (vec![], self, path);
        loop {
            let next = match &node.kind {
                Kind::Map(entries) => {
                    rest = rest.strip_prefix('.').unwrap_or(rest);
                    let is_next = |key: &str| {
                        rest.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
                    };
                    let next = entries.iter().filter(|(key, _, _)| is_next(key)).max_by_key(|(key, _, _)| key.len());
                    next.map(|(key, span, next)| (span.clone(), next, key.len()))
                }
                Kind::List(items) => {
                    let index = rest.strip_prefix('[').and_then(|inside| inside.split_once(']'));
                    index.and_then(|(index, _)| {
                        let next = items.get(index.parse::<usize>().ok()?)?;
                        Some((next.span.clone(), next, index.len() + 2))
                    })
                }
                Kind::Scalar(..) => None,
            };
            let Some((begin, next, length)) = next else { return found };
            found.push((begin, next));
            (node, rest) = (next, &rest[length..]);
        }
    }

    /// The value that a path leads to.
    pub fn find(&self, path: &str) -> Option<&Node> {
        self.way(path).pop().map(|(_, node)| node)
    }

    /// The place to show for a path: a scalar or an item as it stands there, the key of what is larger; the nearest
    /// before it where there is no such node.
    pub fn at(&self, path: &str) -> Range<usize> {
        match self.way(path).pop() {
            Some((_, node)) if matches!(node.kind, Kind::Scalar(..)) => node.span.clone(),
            Some((begin, _)) => begin,
            None => self.span.start..self.span.start,
        }
    }
}

/// The documents of a file.
pub fn documents(text: &str) -> Result<Vec<Node>, Diagnostic> {
    if text.len() > FILE_BYTES_MAX {
        return Err(Diagnostic::new(INVALID, format!("a manifest file has at most {FILE_BYTES_MAX} bytes"), 0..0));
    }
    if let Some(at) = text.find('\0') {
        return Err(Diagnostic::new(INVALID, "a manifest cannot hold a NUL", at..at + 1));
    }
    let text_places = Places::of(text);
    let mut events = vec![];
    for event in Parser::new_from_str(text) {
        match event {
            Ok((event, span)) => events.push((event, text_places.bytes(&span))),
            Err(error) => {
                let at = text_places.byte(error.marker().index());
                let message = format!("this is not YAML: {}", error.info());
                return Err(Diagnostic::new(INVALID, message, at..at));
            }
        }
    }
    let mut builder = Builder { events: events.into_iter(), anchors: HashMap::new(), nodes: 0 };
    builder.documents(text)
}

/// From the parser's character counts to bytes.
struct Places {
    starts: Option<Vec<usize>>,
}

impl Places {
    fn of(text: &str) -> Self {
        let starts = (!text.is_ascii()).then(|| text.char_indices().map(|(i, _)| i).chain([text.len()]).collect());
        Self { starts }
    }

    fn byte(&self, index: usize) -> usize {
        match &self.starts {
            Some(starts) => starts.get(index).or(starts.last()).copied().unwrap_or(index),
            None => index,
        }
    }

    fn bytes(&self, span: &Span) -> Range<usize> {
        self.byte(span.start.index())..self.byte(span.end.index())
    }
}

struct Builder<'t> {
    events: std::vec::IntoIter<(Event<'t>, Range<usize>)>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
}

impl<'t> Builder<'t> {
    fn documents(&mut self, text: &str) -> Result<Vec<Node>, Diagnostic> {
        let mut documents = vec![];
        while let Some((event, _)) = self.events.next() {
            if let Event::DocumentStart(_) = event
                && let Some((event, span)) = self.events.next()
            {
                let node = self.node(event, span, 0, text)?;
                if !matches!(&node.kind, Kind::Scalar(Value::Null, _)) {
                    documents.push(node);
                }
            }
        }
        Ok(documents)
    }

    fn count(&mut self, span: &Range<usize>, depth: usize) -> Result<(), Diagnostic> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(Diagnostic::new(
                INVALID,
                format!("a manifest file has at most {NODES_MAX} values"),
                span.clone(),
            ));
        }
        if depth > DEPTH_MAX {
            return Err(Diagnostic::new(INVALID, format!("a manifest nests at most {DEPTH_MAX} deep"), span.clone()));
        }
        Ok(())
    }

    fn node(&mut self, event: Event<'t>, span: Range<usize>, depth: usize, text: &str) -> Result<Node, Diagnostic> {
        self.count(&span, depth)?;
        match event {
            Event::Scalar(value, style, anchor, tag) => {
                if tag.is_some() {
                    return Err(Diagnostic::new(INVALID, "a manifest has no tags", span));
                }
                let value = scalar(&value, style, &span)?;
                let is_verbatim =
                    value.as_str().is_some_and(|s| text.get(span.clone()).is_some_and(|raw| raw.contains(s)));
                Ok(self.keep(anchor, Node { span, kind: Kind::Scalar(value, is_verbatim) }))
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = vec![];
                let end = loop {
                    match self.events.next() {
                        Some((Event::SequenceEnd, end)) => break end.end,
                        Some((event, span)) => items.push(self.node(event, span, depth + 1, text)?),
                        None => break span.end,
                    }
                };
                Ok(self.keep(anchor, Node { span: span.start..end, kind: Kind::List(items) }))
            }
            Event::MappingStart(anchor, _) => {
                let node = self.mapping(span, depth, text)?;
                Ok(self.keep(anchor, node))
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some(node) => {
                    self.nodes += size(&node);
                    self.count(&span, depth)?;
                    Ok(node)
                }
                None => Err(Diagnostic::new(INVALID, "an alias without its anchor", span)),
            },
            _ => Ok(Node { span, kind: Kind::Scalar(Value::Null, false) }),
        }
    }

    fn mapping(&mut self, span: Range<usize>, depth: usize, text: &str) -> Result<Node, Diagnostic> {
        let mut entries: Vec<(String, Range<usize>, Node)> = vec![];
        let mut known = HashSet::new();
        let end = loop {
            match self.events.next() {
                Some((Event::MappingEnd, end)) => break end.end,
                Some((event, key_span)) => {
                    let key = self.node(event, key_span.clone(), depth + 1, text)?;
                    let key = match key.kind {
                        Kind::Scalar(Value::String(key), _) => key,
                        Kind::Scalar(Value::Number(key), _) => key.to_string(),
                        _ => return Err(Diagnostic::new(INVALID, "a key is a text", key_span)),
                    };
                    if !known.insert(key.clone()) {
                        return Err(Diagnostic::new(INVALID, format!("`{key}` stands here twice"), key_span));
                    }
                    let Some((event, value_span)) = self.events.next() else { break key_span.end };
                    let value = self.node(event, value_span, depth + 1, text)?;
                    entries.push((key, key_span, value));
                }
                None => break span.end,
            }
        };
        Ok(Node { span: span.start..end, kind: Kind::Map(entries) })
    }

    fn keep(&mut self, anchor: usize, node: Node) -> Node {
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        node
    }
}

fn size(node: &Node) -> usize {
    match &node.kind {
        Kind::Scalar(..) => 1,
        Kind::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Kind::Map(entries) => 1 + entries.iter().map(|(_, _, node)| size(node)).sum::<usize>(),
    }
}

fn scalar(text: &str, style: ScalarStyle, span: &Range<usize>) -> Result<Value, Diagnostic> {
    if style != ScalarStyle::Plain {
        return Ok(Value::String(text.to_owned()));
    }
    let quote = |what: &str| {
        Err(Diagnostic::new(AMBIGUOUS, format!("`{text}` is {what} to kubectl"), span.clone())
            .hint(format!("quote it: \"{text}\"")))
    };
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Ok(Value::Null),
        "true" | "True" | "TRUE" => return Ok(Value::Bool(true)),
        "false" | "False" | "FALSE" => return Ok(Value::Bool(false)),
        word if BOOLEAN_WORDS.contains(&word) => return quote("a boolean"),
        ".inf" | "-.inf" | "+.inf" | ".nan" | ".Inf" | ".NaN" => return quote("no number that JSON has, but a number"),
        _ => {}
    }
    let digits = text.trim_start_matches(['+', '-']);
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return Ok(Value::String(text.to_owned()));
    }
    let is_octal = digits.len() > 1 && digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
    let is_prefixed = digits.len() > 2
        && ["0x", "0o", "0b"].iter().any(|p| digits.starts_with(p))
        && digits[2..].bytes().all(|b| b.is_ascii_hexdigit());
    if is_octal || is_prefixed {
        return quote("a number in another base");
    }
    if digits.contains('_') && digits.bytes().all(|b| b.is_ascii_digit() || b == b'_' || b == b'.') {
        return quote("a number");
    }
    if let Ok(number) = text.trim_start_matches('+').parse::<i64>() {
        return Ok(Value::Number(number.into()));
    }
    let is_float = digits.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-'))
        && digits.bytes().any(|b| b.is_ascii_digit());
    match text.parse::<f64>().ok().filter(|_| is_float).and_then(serde_json::Number::from_f64) {
        Some(number) => Ok(Value::Number(number)),
        None => Ok(Value::String(text.to_owned())),
    }
}
